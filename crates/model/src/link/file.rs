//! `uses` of the app file: `["api"]`, or with more to say `[{ app = "db", as = "store" }]`.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::{LinkPort, LinkSpec, MOST};
use crate::name::{AppName, LinkName, ProcessType};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    app: AppName,
    process: Option<ProcessType>,
    #[serde(rename = "as")]
    name: Option<LinkName>,
    #[serde(default)]
    ports: Vec<Port>,
}

/// One use, in either form.
struct Use(LinkSpec);

/// A port as a number, or as a text with its protocol.
struct Port(LinkPort);

/// Reads the list; no name may be there twice.
pub fn read_uses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LinkSpec>, D::Error> {
    deserializer.deserialize_seq(Uses)
}

struct Uses;

impl<'de> Visitor<'de> for Uses {
    type Value = Vec<LinkSpec>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of apps, like [\"api\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all: Vec<LinkSpec> = Vec::new();
        while let Some(Use(link)) = list.next_element()? {
            if all.iter().any(|other| other.name == link.name) {
                return Err(A::Error::custom(format!("`{}.internal` is used twice", link.name)));
            }
            all.push(link);
        }
        if all.len() > MOST {
            return Err(A::Error::custom(format!("an app uses at most {MOST} others")));
        }
        Ok(all)
    }
}

impl<'de> Deserialize<'de> for Use {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Use;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "an app's name, or { app = \"…\", as = \"…\", process = \"…\", ports = […] }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Use, E> {
                text.parse().map(|app| Use(LinkSpec::to(app))).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Use, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                let plain = LinkSpec::to(fields.app);
                Ok(Use(LinkSpec {
                    process: fields.process.unwrap_or(plain.process),
                    name: fields.name.unwrap_or(plain.name),
                    ports: fields.ports.into_iter().map(|port| port.0).collect(),
                    app: plain.app,
                }))
            }
        }
        deserializer.deserialize_any(One)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl Visitor<'_> for One {
            type Value = Port;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port, like 5432 or \"53/udp\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Port, E> {
                number.to_string().parse().map(Port).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Port, E> {
                number.to_string().parse().map(Port).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Port, E> {
                text.parse().map(Port).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(One)
    }
}
