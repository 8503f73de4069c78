use super::*;

fn file(toml: &str) -> EdgeFile {
    toml::from_str(toml).unwrap()
}

#[test]
fn what_is_written_is_settled() {
    assert!(file("").settle(&BTreeMap::new()).is_off());
    assert_eq!(file(""), EdgeFile::default());
    let written = file(
        r#"
        compress = true
        secure_headers = true
        headers = { X-Robots-Tag = "noindex", Server = "" }
        [cors]
        origins = ["https://*.shop.example"]
        credentials = true
        [auth]
        paths = ["/admin"]
        [access]
        deny = ["10.0.0.0/8"]
        [rate]
        client = "10/s"
        app = "600/m"
        app_burst = 1000
        key = "X-Api-Key"
        "#,
    );
    let json = serde_json::to_string(&written).unwrap();
    assert_eq!(serde_json::from_str::<EdgeFile>(&json).unwrap(), written, "{json}");
    let settled = written.settle(&BTreeMap::new());
    let json = serde_json::to_string(&settled).unwrap();
    assert_eq!(serde_json::from_str::<Edge>(&json).unwrap(), settled, "{json}");
    let cors = settled.cors.unwrap();
    assert_eq!((cors.methods.join(" "), cors.has_credentials), ("PUT PATCH DELETE".into(), true));
    assert_eq!(settled.headers["server"], None);
    assert_eq!(settled.headers["x-robots-tag"].as_deref(), Some("noindex"));
    assert_eq!(settled.rate.client.map(|quota| quota.burst), Some(10));
    assert_eq!(settled.rate.app.map(|quota| quota.burst), Some(1000));
    assert_eq!(settled.rate.key.as_deref(), Some("x-api-key"));
    assert!(settled.compress.unwrap().covers("text/css"));
    assert!(settled.auth.unwrap().visitors.is_empty(), "nobody gets in before there is somebody");
}

#[test]
fn a_command_is_over_the_file_and_ranges_add_up() {
    let below = file(
        "compress = true\nheaders = { a = \"1\", b = \"1\" }\n[access]\ndeny = [\"10.0.0.1\"]\n\
         [rate]\nclient = \"10/s\"\n[cors]\norigins = [\"*\"]\nmax_age = \"5s\"",
    );
    let upper = file(
        "compress = false\nheaders = { b = \"\" }\n[access]\ndeny = [\"10.0.0.2\"]\n\
         [rate]\nclient = \"off\"\n[cors]\ncredentials = true",
    );
    let both = upper.over(&below);
    assert_eq!(EdgeFile::default().over(&below), below);
    assert_eq!(upper.over(&EdgeFile::default()), upper);
    assert!(upper.check().is_ok() && below.check().is_ok() && both.check().is_err());
    let settled = both.settle(&BTreeMap::new());
    assert_eq!((&settled.compress, &settled.rate), (&None, &Rate::default()));
    assert_eq!(settled.access.deny.len(), 2);
    assert_eq!(settled.headers["a"].as_deref(), Some("1"));
    assert_eq!(settled.headers["b"], None);
    let cors = settled.cors.unwrap();
    assert!(!cors.has_credentials, "what contradicts itself is settled to the safe side");
    assert_eq!(cors.max_age, Duration::from_secs(5));
}

#[test]
fn a_password_is_asked_for_once_there_is_a_visitor_or_a_path() {
    let visitors = BTreeMap::from([("ann".to_owned(), "$argon2id$".to_owned())]);
    let is_on = |text: &str, visitors: &BTreeMap<String, String>| {
        file(text).settle(visitors).auth.is_some()
    };
    for (text, alone, with_visitor) in [
        ("", false, true),
        ("[auth]\nrealm = \"x\"", false, true),
        ("[auth]\npaths = [\"/a\"]", true, true),
        ("[auth]\nrequired = true", true, true),
        ("[auth]\nrequired = false\npaths = [\"/a\"]", false, false),
    ] {
        assert_eq!(is_on(text, &BTreeMap::new()), alone, "{text}");
        assert_eq!(is_on(text, &visitors), with_visitor, "{text}");
    }
}

#[test]
fn a_slip_is_told_by_its_rule() {
    let mut shown = String::new();
    for text in [
        "compres = true",
        "compress_types = [\"html\"]",
        "headers = { \"a b\" = \"\" }",
        "headers = { Content-Length = \"0\" }",
        "headers = { a = \"x\\ny\" }",
        "cors = { origins = [\"shop.example\"] }",
        "cors = { origins = [\"*\"], credentials = true }",
        "cors = { methods = [\"put\"] }",
        "auth = { users = [\"ann\"] }",
        "auth = { realm = \"a\\\"b\" }",
        "auth = { paths = [\"admin\"] }",
        "access = { allow = [\"10.0.0.0/99\"] }",
        "access = { alow = [] }",
        "rate = { client = \"10\" }",
        "rate = { client = \"10/s\", client_burst = 0 }",
        "rate = { key = \"a b\" }",
    ] {
        let mistake = crate::manifest::parse_manifest(&format!("[edge]\n{text}")).unwrap_err();
        shown += &format!("{text} | {}\n", mistake.why);
    }
    insta::assert_snapshot!(shown, @r#"
    compres = true | unknown field `compres`, expected one of `compress`, `compress_types`, `compress_from`, `secure_headers`, `headers`, `cors`, `auth`, `access`, `rate`, `files`, `pages`
    compress_types = ["html"] | `html` is not a media type, like `text/html` or `text/*`
    headers = { "a b" = "" } | `a b` is not a header name
    headers = { Content-Length = "0" } | `Content-Length` is not an app's to set: it frames or names the answer
    headers = { a = "x\ny" } | the value of `a` is not one: ASCII without line breaks, no space around it, at most 4096 characters
    cors = { origins = ["shop.example"] } | `shop.example` is not an origin: `*`, or `http://` or `https://`, a host in lower case, perhaps `*.` before it and a port after it, and no path
    cors = { origins = ["*"], credentials = true } | `credentials` cannot go with the origin `*`: every site could then act for a visitor; name the origins
    cors = { methods = ["put"] } | `put` is not a method: letters in upper case
    auth = { users = ["ann"] } | unknown field `users`, expected one of `required`, `realm`, `paths`
    auth = { realm = "a\"b" } | `a"b` is not a realm: at most 100 ASCII characters without `"` and `\`
    auth = { paths = ["admin"] } | `admin` is not a path prefix: it starts with / and is written plainly, nothing encoded
    access = { allow = ["10.0.0.0/99"] } | `10.0.0.0/99` is not an address or `address/bits`
    access = { alow = [] } | unknown field `alow`, expected `allow` or `deny`
    rate = { client = "10" } | `10` is not a rate: a whole number from 1 to 1000000, then `/s`, `/m` or `/h`
    rate = { client = "10/s", client_burst = 0 } | a burst is at least 1, not 0
    rate = { key = "a b" } | `a b` is not a header name
    "#);
}
