//! The page of every error code, compiled in.

/// One page of `docs/errors/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// `P104`, `H12`.
    pub code: &'static str,
    pub text: &'static str,
}

impl Page {
    /// What the code means, from the page's heading.
    pub fn title(&self) -> &'static str {
        let heading = self.text.lines().next().unwrap_or_default();
        heading.split_once(": ").map_or(heading, |(_, title)| title)
    }
}

macro_rules! pages {
    ($($code:ident)*) => {
        /// All pages, in the order people look for them.
        pub const PAGES: &[Page] = &[$(Page {
            code: stringify!($code),
            text: include_str!(concat!("../../../docs/errors/", stringify!($code), ".md")),
        }),*];
    };
}

pages! {
    P001 P002 P003 P004 P005 P006 P007 P008 P009 P010 P011 P012 P013 P014 P015 P016 P017 P018 P101 P102 P103 P104 P105 P106 P107 P108 P109 P110 P111 P201 P202 P203 P204 P205 P206 P207 P208 P209 P210 P212 P301 P302 P401 P402 P403 P404 P405 P430 P431 P432 P433 P434 P435 P440 P441 P442 P520 P521 P522 P523 P524 P525 P526 P540 P541 P542 P543 P544 P545 P701 P702 P703 P704 P710 P711 P901 R10 R12 R14 R15 R20 H10 H11 H12 H13 H14 H15 H17 H18 H19 H20 H21 H22 H23 H24 H25 H26 H27 H28 H31 H80 H81 H99 E401 E403 E404 E413 E414 E429 E431 E503 E508
}

/// The page of a code, whatever its case.
pub fn find(code: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.code.eq_ignore_ascii_case(code))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::problem::Code;

    use super::*;

    #[test]
    fn every_code_has_its_page_and_every_page_its_code() {
        let pages: BTreeSet<&str> = PAGES.iter().map(|page| page.code).collect();
        assert_eq!(pages.len(), PAGES.len(), "a page is listed twice");
        for code in Code::ALL {
            let page = find(code.as_str()).unwrap_or_else(|| panic!("{code} has no page"));
            assert_eq!(page.title(), code.title(), "{code}");
        }
        for page in PAGES.iter().filter(|page| page.code.starts_with('P')) {
            assert!(Code::parse(page.code).is_some(), "{} is no code", page.code);
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let code = name.strip_suffix(".md").unwrap_or(&name);
            assert!(pages.contains(code), "{name} is compiled into nothing");
        }
    }

    #[test]
    fn every_page_says_why_how_to_see_it_and_what_to_do() {
        for page in PAGES {
            assert!(page.text.starts_with(&format!("# {}: ", page.code)), "{}", page.code);
            for part in ["## Usual causes", "## See it", "## Fix it", "## Example"] {
                assert!(page.text.contains(&format!("\n{part}\n\n")), "{}: {part}", page.code);
            }
            let lines = page.text.lines().count();
            assert!((15..=40).contains(&lines), "{}: {lines} lines", page.code);
        }
    }

    #[test]
    fn a_page_is_found_whatever_the_case() {
        assert_eq!(find("p104").unwrap().code, "P104");
        assert_eq!(find("H12").unwrap().title(), "the app did not begin its answer in time");
        assert!(find("P000").is_none());
    }
}
