//! What each method of the APIs needs of whoever calls it.

use tieline_gate::Role;
use tieline_gate::guard::Need;

/// Methods that only read, of both services.
const READING: [&str; 8] =
    ["Diff", "Get", "List", "Watch", "GetDesired", "GetStatus", "Audit", "WatchEvents"];

/// What the method at `path` needs. Whoever may read may ask for everything that
/// changes nothing. All others declare something, those that are not known here
/// among them.
pub fn needed(path: &str) -> Need {
    let method = path.rsplit('/').next().unwrap_or(path);
    let reads = READING.contains(&method);
    Need {
        role: if reads { Role::ReadOnly } else { Role::Controller },
        bulk: reads && !method.starts_with("Watch"),
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn what_each_method_needs_is_on_purpose() {
        let pool = DescriptorPool::decode(tieline_proto::FEDERATION_DESCRIPTORS).expect("just encoded");
        let mut all: Vec<String> = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| {
                let Need { role, bulk } =
                    needed(&format!("/{}/{}", method.parent_service().full_name(), method.name()));
                format!(
                    "{}/{} {role}{}",
                    method.parent_service().name(),
                    method.name(),
                    if bulk { " bulk" } else { "" }
                )
            })
            .collect();
        all.sort();
        assert_eq!(
            all,
            [
                "Federation/Audit read-only bulk",
                "Federation/GetStatus read-only bulk",
                "Federation/WatchEvents read-only",
                "Intent/Apply controller",
                "Intent/Diff read-only bulk",
                "Intent/Get read-only bulk",
                "Intent/GetDesired read-only bulk",
                "Intent/List read-only bulk",
                "Intent/Watch read-only",
            ]
        );
        for unknown in ["", "/", "/tieline.federation.v1.Intent/New", "/x/ApplyWatch"] {
            assert_eq!(needed(unknown), Need { role: Role::Controller, bulk: false }, "{unknown}");
        }
    }
}
