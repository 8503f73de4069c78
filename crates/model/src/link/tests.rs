use super::*;
use crate::manifest::parse_manifest;

#[test]
fn uses_are_names_or_tables() {
    let file = parse_manifest(
        "uses = [\"api\", { app = \"db\", as = \"store\", process = \"main\", ports = [5432, \"53/udp\"] }]",
    )
    .unwrap();
    let api = LinkSpec::to("api".parse().unwrap());
    let store = LinkSpec {
        app: "db".parse().unwrap(),
        process: "main".parse().unwrap(),
        name: "store".parse().unwrap(),
        ports: vec![LinkPort::Tcp(5432), LinkPort::Udp(53)],
    };
    assert_eq!(file.uses, [api, store]);
}

#[test]
fn what_is_wrong_with_uses_is_said_with_its_line() {
    let why = |text: &str| parse_manifest(text).unwrap_err().why;
    assert_eq!(why("uses = [\"api\", \"api\"]"), "`api.internal` is used twice");
    assert!(why("uses = [\"API\"]").contains("is not an app name"), "{}", why("uses = [\"API\"]"));
    assert!(why("uses = [{ app = \"api\", port = 1 }]").contains("unknown field `port`"));
    assert!(why("uses = [{ app = \"api\", ports = [0] }]").contains("`0` is no port"));
    assert!(why("uses = \"api\"").contains("a list of apps"), "{}", why("uses = \"api\""));
}

#[test]
fn an_address_stays_when_other_links_come_and_go() {
    let names = |all: &[&str]| all.iter().map(|name| name.parse().unwrap()).collect();
    let few = addresses(&names(&["api"]));
    let many = addresses(&names(&["api", "db", "mail", "zoo"]));
    let api: LinkName = "api".parse().unwrap();
    assert_eq!(few[&api], many[&api]);
    let all: BTreeSet<_> = many.values().collect();
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|address| address.octets()[..2] == [127, 77]));
}

#[test]
fn names_whose_numbers_meet_get_addresses_of_their_own() {
    // More names than a birthday party of 65533 takes without a meeting.
    let names: BTreeSet<LinkName> =
        (0..2000).map(|n| format!("app-{n}").parse().unwrap()).collect();
    let all: BTreeSet<Ipv4Addr> = addresses(&names).into_values().collect();
    assert_eq!(all.len(), 2000);
    assert!(!all.contains(&Ipv4Addr::new(127, 77, 255, 254)));
}

#[test]
fn a_circle_is_found_and_a_diamond_is_none() {
    let uses = |all: &[(&'static str, &[&'static str])]| -> BTreeMap<&str, BTreeSet<&str>> {
        all.iter().map(|(app, used)| (*app, used.iter().copied().collect())).collect()
    };
    let circle = uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
    assert_eq!(find_circle(&circle, &"a"), Some(vec!["a", "b", "c", "a"]));
    let diamond = uses(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"])]);
    assert_eq!(find_circle(&diamond, &"a"), None);
    // Somebody else's circle is not ours.
    let other = uses(&[("a", &["b"]), ("b", &["b"])]);
    assert_eq!(find_circle(&other, &"a"), None);
    assert_eq!(find_circle(&uses(&[("a", &["a"])]), &"a"), Some(vec!["a", "a"]));
}

#[test]
fn ports_are_read_as_they_are_written() {
    for text in ["5432", "53/udp"] {
        assert_eq!(text.parse::<LinkPort>().unwrap().to_string(), text);
    }
    assert_eq!("80/tcp".parse(), Ok(LinkPort::Tcp(80)));
    for wrong in ["0", "65536", "80/sctp", "http", ""] {
        assert!(wrong.parse::<LinkPort>().is_err(), "{wrong}");
    }
}
