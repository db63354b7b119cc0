//! What each method of the API needs of whoever calls it.

use tieline_gate::Role;
use tieline_gate::guard::Need;

/// What the method at `path` needs. Of Tieline's services, methods that are
/// named Get, List, Preview or Watch only read; all others change something, also those
/// that are not known here.
pub fn needed(path: &str) -> Need {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or(("", path));
    let starts = |words: &[&str]| words.iter().any(|word| method.starts_with(word));
    if starts(&["Get", "List", "Preview"]) {
        return Need { role: Role::ReadOnly, bulk: true };
    }
    let role = match service {
        _ if starts(&["Watch"]) => Role::ReadOnly,
        "tieline.v1.Operations" => Role::Operator,
        // What a controller holds is nobody else's to end.
        _ if starts(&["Forget"]) => Role::Operator,
        _ => Role::Controller,
    };
    Need { role, bulk: false }
}

#[cfg(test)]
mod tests {
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every method that exists, with what it needs: a new one is added here,
    /// after a thought.
    #[test]
    fn what_each_method_needs_is_on_purpose() {
        let read = Need { role: Role::ReadOnly, bulk: true };
        let program = Need { role: Role::Controller, bulk: false };
        for (path, need) in [
            ("/tieline.v1.Control/Get", read),
            ("/tieline.v1.Control/List", read),
            ("/tieline.v1.Control/Session", program),
            ("/tieline.v1.Control/ForgetController", Need { role: Role::Operator, bulk: false }),
            ("/tieline.v1.Control/Watch", Need { role: Role::ReadOnly, bulk: false }),
            ("/tieline.v1.Control/WatchExports", Need { role: Role::ReadOnly, bulk: false }),
            ("/tieline.v1.Operations/ListSessions", read),
            ("/tieline.v1.Operations/Drain", Need { role: Role::Operator, bulk: false }),
            ("/x.y/Unknown", program),
            ("Session", program),
            ("", program),
        ] {
            assert_eq!(needed(path), need, "{path}");
        }
        let set: FileDescriptorSet =
            prost::Message::decode(tieline_proto::DESCRIPTORS).expect("it has just been encoded");
        let services = set.file.iter().flat_map(|file| &file.service);
        let mut changing: Vec<String> = services
            .flat_map(|service| service.method.iter().map(move |method| (service.name(), method.name())))
            .filter(|(service, method)| {
                needed(&format!("/tieline.v1.{service}/{method}")).role > Role::ReadOnly
            })
            .map(|(service, method)| format!("{service}/{method}"))
            .collect();
        changing.sort();
        assert_eq!(changing, ["Control/ForgetController", "Control/Session"], "all others only read");
    }
}
