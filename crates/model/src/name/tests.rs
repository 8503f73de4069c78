use super::*;

#[test]
fn app_names_keep_their_rule() {
    for good in ["ab", "shop", "my-app-2", "a23456789012345678901234567890"] {
        assert!(good.parse::<AppName>().is_ok(), "{good}");
    }
    for bad in
        ["", "a", "1shop", "Shop", "shop-", "sh_op", "a b", "a2345678901234567890123456789012"]
    {
        assert!(bad.parse::<AppName>().is_err(), "{bad}");
    }
}

#[test]
fn the_error_names_the_rule_that_was_broken() {
    let error = "Shop".parse::<AppName>().unwrap_err();
    insta::assert_snapshot!(error, @"`Shop` is not an app name: 2 to 30 characters of a-z, 0-9 and -, starting with a letter and not ending with -");
}

#[test]
fn domain_names_are_lower_case_labels() {
    for good in ["example.com", "localhost", "a-b.c.d", "xn--bcher-kva.example"] {
        assert!(good.parse::<DomainName>().is_ok(), "{good}");
    }
    for bad in ["", ".", "a..b", "-a.b", "Example.com", "a_b.c", "a.b:80", "a/b"] {
        assert!(bad.parse::<DomainName>().is_err(), "{bad}");
    }
}

#[test]
fn names_are_checked_when_read_from_json_too() {
    assert!(serde_json::from_str::<AppName>("\"shop\"").is_ok());
    assert!(serde_json::from_str::<AppName>("\"Shop\"").is_err());
}
