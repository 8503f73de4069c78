use jiff::{SignedDuration, Timestamp};

use super::*;

#[test]
fn rules_are_read_and_written() {
    let host: DomainName = "www.customer.example".parse().unwrap();
    for (given, written, target) in [
        ("/knows", "/knows", "/knows?host=www.customer.example"),
        ("/knows?deep=1", "/knows?deep=1", "/knows?deep=1&host=www.customer.example"),
        ("http://127.0.0.1:81", "http://127.0.0.1:81/", "/?host=www.customer.example"),
        ("https://a.example?x", "https://a.example/?x", "/?x&host=www.customer.example"),
        ("https://a.example:443/k", "https://a.example/k", "/k?host=www.customer.example"),
    ] {
        let rule: AskRule = given.parse().unwrap();
        assert_eq!((rule.to_string().as_str(), rule.target(&host).as_str()), (written, target));
        assert_eq!(written.parse(), Ok(rule));
    }
    let long = format!("/{}", "x".repeat(2000));
    for wrong in
        ["", "knows", "ftp://a.example", "https://", "https://u@a.example/", "/a b", "/#", &long]
    {
        assert!(wrong.parse::<AskRule>().is_err(), "{wrong}");
    }
    assert_eq!("off".parse(), Ok(AskSaid::Off));
    assert!("on".parse::<AskSaid>().is_err());
}

#[test]
fn a_command_wins_over_the_file() {
    let rule = |text: &str| text.parse::<AskRule>().unwrap();
    let said = |text: &str| text.parse::<AskSaid>().unwrap();
    assert_eq!(settle(None, Some(rule("/file"))), Some(rule("/file")));
    assert_eq!(settle(Some(said("/set")), Some(rule("/file"))), Some(rule("/set")));
    assert_eq!(settle(Some(said("off")), Some(rule("/file"))), None);
    assert_eq!(settle(None, None), None);
}

#[test]
fn addresses_and_our_own_names_are_not_claimed() {
    let check = |host: &str| claimable(host, "apps.example").is_some();
    for host in ["www.customer.example", "customer.shop", "myapps.example", "xn--bcher-kva.example"]
    {
        assert!(check(host), "{host}");
    }
    let wrong = [
        "",
        "localhost",
        "apps.example",
        "shop.apps.example",
        "a.b.apps.example",
        "10.0.0.1",
        "[::1]",
        "Www.customer.example",
        "www.customer.example.",
        "*.customer.example",
        "a_b.example",
        "..",
    ];
    for host in wrong {
        assert!(!check(host), "{host}");
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

#[test]
fn a_name_is_asked_about_once_and_refused_for_a_minute() {
    let host: DomainName = "a.example".parse().unwrap();
    let mut ledger = Ledger::default();
    assert_eq!(ledger.begin(&host, at(0)), Begin::Ask);
    assert_eq!(ledger.begin(&host, at(0)), Begin::UnderWay);
    ledger.end(&host, true, at(1));
    assert_eq!(ledger.begin(&host, at(41)), Begin::Refused(SignedDuration::from_secs(20)));
    assert_eq!(ledger.begin(&host, at(61)), Begin::Ask);
    ledger.end(&host, false, at(62));
    assert_eq!(ledger.begin(&host, at(63)), Begin::Ask, "a name that was given away again");
}

#[test]
fn names_that_are_made_up_do_not_keep_apps_busy() {
    let mut ledger = Ledger::default();
    let mut asked = |from: usize, now| {
        let host = |number| format!("n{number}.example").parse::<DomainName>().unwrap();
        let asks = (from..from + 1000).filter(|number| {
            let begin = ledger.begin(&host(*number), now);
            ledger.end(&host(*number), true, now);
            begin == Begin::Ask
        });
        asks.count()
    };
    assert_eq!((asked(0, at(0)), asked(1000, at(59)), asked(2000, at(60))), (300, 0, 300));
}

#[test]
fn a_flood_of_names_fills_no_memory() {
    let mut ledger = Ledger::default();
    let host = |number: usize| format!("n{number}.example").parse::<DomainName>().unwrap();
    for number in 0..Ledger::MOST_UNDER_WAY {
        assert_eq!(ledger.begin(&host(number), at(0)), Begin::Ask);
    }
    assert_eq!(ledger.begin(&host(9999), at(0)), Begin::Full);
    ledger.end(&host(0), true, at(0));
    assert_eq!(ledger.begin(&host(9999), at(0)), Begin::Ask);
    for number in 0..2 * Ledger::MOST_REFUSED {
        ledger.end(&host(number), true, at(1));
    }
    assert_eq!(ledger.refused_count(), Ledger::MOST_REFUSED);
    // Long after, the next refusal finds them all over.
    ledger.end(&host(0), true, at(100));
    assert_eq!(ledger.refused_count(), 1);
}
