//! Types that are written as one text, in files and messages that serde reads, and
//! how a schema describes them. With the feature `schema`.

use crate::{RouteDistinguisher, RouteTarget};

/// Makes a type with `FromStr` and `Display` readable and writable as a text,
/// and describes it: format, description, an example.
#[macro_export]
macro_rules! text_type {
    ($type:ty, $format:literal, $description:literal, $example:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $format.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "format": $format,
                    "description": $description,
                    "examples": [$example],
                })
            }
        }
    };
}

text_type!(RouteTarget, "route-target", "Route target (RFC 4360, 5668)", "64512:100");
text_type!(RouteDistinguisher, "route-distinguisher", "Route distinguisher (RFC 4364)", "64512:1");
