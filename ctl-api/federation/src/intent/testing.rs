//! Intents for tests.

use super::Intent;
use super::read::{Documents, File};

/// Two clusters with two gateways and a controller each.
pub(crate) const CLUSTERS: &str = "\
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: east}
spec:
  asn: 64512
  controllers: [{name: c1, address: 198.18.0.11}]
  gateways:
  - {name: east-1, endpoint: 'unix:/run/east-1.sock', tunnelAddresses: [198.18.0.1]}
  - {name: east-2, endpoint: 'unix:/run/east-2.sock', tunnelAddresses: [198.18.0.2]}
---
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: west}
spec:
  asn: 64513
  controllers: [{name: c1, address: 198.18.1.11}]
  gateways:
  - {name: west-1, endpoint: 'unix:/run/west-1.sock', tunnelAddresses: [198.18.1.1]}
  - {name: west-2, endpoint: 'unix:/run/west-2.sock', tunnelAddresses: [198.18.1.2]}
";

/// The intent of a text.
pub(crate) fn intent(text: &str) -> Intent {
    let files = [File { name: "test.yaml".to_owned(), text: text.to_owned() }];
    match Documents::read(&files) {
        Ok(documents) => documents.into_intent(),
        Err(problems) => panic!("{problems:#?}"),
    }
}
