//! The APIs of a controller (`tieline.federation.v1`): that of the intent, its
//! messages to and from what they mean, and the view of the running controller.

use tieline_gate::limits::ApiLimits;
use tieline_gate::services::Services;
use tieline_proto::federation::v1;
use tonic::service::Routes;

use crate::intent::diff::{Change, Difference};
use crate::intent::names::Name;
use crate::intent::problem::Problem;
use crate::intent::read::{Documents, File};
use crate::intent::rules::Author;
use crate::intent::{Object, ObjectKey};
use crate::store::StoreError;
use crate::store::state::Request;

mod federation;
mod needs;
mod service;

pub use federation::FederationService;
pub use needs::needed;
pub use service::IntentService;

/// The limits of clients where the configuration states none: a message may be a
/// whole intent as files.
pub fn limits() -> ApiLimits {
    ApiLimits { message: service::MAX_REQUEST, receive_memory: 256 << 20, ..ApiLimits::default() }
}

/// Both services, with health and reflection beside them.
///
/// # Errors
/// When the description of the APIs makes no sense.
pub async fn services(
    intent: IntentService,
    federation: FederationService,
    limits: &ApiLimits,
) -> Result<Services, tieline_gate::services::Senseless> {
    let mut routes = Routes::builder();
    routes.add_service(intent.into_server().max_decoding_message_size(limits.message));
    routes.add_service(federation.into_server());
    let names = &["tieline.federation.v1.Intent", "tieline.federation.v1.Federation"];
    Services::new(routes, names, tieline_proto::FEDERATION_DESCRIPTORS).await
}

/// Why a request is not understood, or not right.
enum Wrong {
    /// The request makes no sense.
    Request(String),
    /// Its files break rules.
    Files(Vec<Problem>),
}

/// The parts of a request that Apply and Diff have in common.
struct Parts<'a> {
    files: &'a [v1::File],
    remove: &'a [String],
    prune: bool,
    site: &'a str,
}

/// Reads a request; `listener` is in whose name its listener speaks.
fn request(parts: &Parts<'_>, listener: &Author) -> Result<Request, Wrong> {
    let author = match (listener, parts.site) {
        (Author::Central, "") => Author::Central,
        (Author::Central, site) => {
            Author::Site(site.parse::<Name>().map_err(|error| Wrong::Request(format!("site: {error}")))?)
        }
        // A site cannot speak for anybody else.
        (site, _) => site.clone(),
    };
    let files: Vec<File> =
        parts.files.iter().map(|file| File { name: file.name.clone(), text: file.text.clone() }).collect();
    let documents = Documents::read(&files).map_err(Wrong::Files)?;
    let remove = parts.remove.iter().map(|key| ObjectKey::parse(key));
    let remove =
        remove.collect::<Result<_, _>>().map_err(|error| Wrong::Request(format!("remove: {error}")))?;
    Ok(Request { documents, remove, prune: parts.prune, author })
}

fn difference_message(difference: &Difference) -> v1::Difference {
    let objects = difference.objects.iter().map(|object| v1::ObjectDifference {
        key: object.object.to_string(),
        change: match object.change {
            Change::Added => v1::Change::Added,
            Change::Changed => v1::Change::Changed,
            Change::Removed => v1::Change::Removed,
        }
        .into(),
        fields: object
            .fields
            .iter()
            .map(|field| v1::FieldDifference {
                field: field.field.clone(),
                before_json: field.before.to_string(),
                after_json: field.after.to_string(),
            })
            .collect(),
    });
    v1::Difference { objects: objects.collect() }
}

/// From its message. What is not understood is left out: it is for eyes.
pub fn difference_from(message: &v1::Difference) -> Difference {
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    let objects = message.objects.iter().filter_map(|object| {
        Some(crate::intent::diff::ObjectDifference {
            object: ObjectKey::parse(&object.key).ok()?,
            change: match object.change() {
                v1::Change::Added => Change::Added,
                v1::Change::Removed => Change::Removed,
                v1::Change::Changed | v1::Change::Unspecified => Change::Changed,
            },
            fields: object
                .fields
                .iter()
                .map(|field| crate::intent::diff::FieldDifference {
                    field: field.field.clone(),
                    before: json(&field.before_json),
                    after: json(&field.after_json),
                })
                .collect(),
        })
    });
    Difference { objects: objects.collect() }
}

/// Problems as messages.
pub fn problem_messages(problems: &[Problem]) -> Vec<v1::Problem> {
    problems
        .iter()
        .map(|problem| {
            let place = problem.place.as_ref();
            v1::Problem {
                file: place.map(|place| place.file.clone()).unwrap_or_default(),
                line: place.map_or(0, |place| place.position.line),
                column: place.map_or(0, |place| place.position.column),
                key: problem.object.as_ref().map(ToString::to_string).unwrap_or_default(),
                field: problem.field.clone(),
                rule: problem.rule.to_string(),
                reason: problem.reason.clone(),
                remedy: problem.remedy.clone(),
            }
        })
        .collect()
}

fn object_message(key: &ObjectKey, object: &Object) -> v1::Object {
    v1::Object { key: key.to_string(), json: object.to_shown_document(key).to_string() }
}

impl From<StoreError> for tonic::Status {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Conflict { .. } => Self::aborted(message),
            StoreError::Fenced { .. } | StoreError::Exposed { .. } => Self::failed_precondition(message),
            StoreError::Unavailable { .. } | StoreError::InUse { .. } => Self::unavailable(message),
            StoreError::Unknown { .. } => Self::deadline_exceeded(message),
            StoreError::TooLarge { .. } => Self::resource_exhausted(message),
            StoreError::Damaged { .. } => Self::data_loss(message),
        }
    }
}
