//! Would the authority find us? Asked before a try is spent, because tries are few. Refuses only on
//! what is certain: a name that does not exist, an answer that is not ours, an authority that may not
//! sign. What cannot be seen from here is left to the authority.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::problem::{Code, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{Acme, Challenge};
use crate::dns::{Caa, DnsError, Resolver};

/// What the preflight asks.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) host: &'a str,
    pub(super) acme: &'a Acme,
    /// What our edge answers on the challenge's path: token and answer.
    pub(super) probe: (&'a str, &'a str),
}

const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn check(resolver: &Resolver, question: &Question<'_>) -> Result<(), Problem> {
    let host = question.host;
    let records = resolver.caa(host).await;
    // A server that cannot tell is no reason to hold back; the authority asks itself.
    may_sign(host, &question.acme.directory, &records.unwrap_or_default())?;
    let addresses = match question.acme.challenge {
        // Only the name's TXT record is looked at.
        Challenge::Dns01 => return Ok(()),
        Challenge::Http01 | Challenge::TlsAlpn01 => resolver.addresses(host).await,
    };
    match addresses {
        Err(error @ DnsError::NoSuchName(_)) => return Err(not_here(host, error.to_string())),
        Ok(addresses) if addresses.is_empty() => {
            return Err(not_here(host, "it has neither an A nor an AAAA record".to_owned()));
        }
        Ok(addresses) if question.acme.challenge == Challenge::Http01 => {
            for address in addresses {
                ours_answers(question, address).await?;
            }
        }
        Ok(_) | Err(_) => {}
    }
    Ok(())
}

fn not_here(host: &str, why: String) -> Problem {
    Problem::new(Code::NameLeadsElsewhere, format!("no certificate was ordered for `{host}`"))
        .why(why)
        .still("no try was spent, and what is shown now is shown on")
        .next("point the name's A or AAAA record at this machine")
        .next("then: wharf certs:auto:refresh")
}

/// Asks for a challenge's answer as the authority will. An answer of somebody else is certain; none
/// at all is not: many networks do not let a machine reach itself by its public address.
async fn ours_answers(question: &Question<'_>, address: IpAddr) -> Result<(), Problem> {
    let (token, expected) = question.probe;
    let to = SocketAddr::new(address, question.acme.http_port);
    let talk = async {
        let mut stream = TcpStream::connect(to).await?;
        let head = format!(
            "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            question.host
        );
        stream.write_all(head.as_bytes()).await?;
        let mut text = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let Ok(Ok(text)) = tokio::time::timeout(LIMIT, talk).await else { return Ok(()) };
    if text.windows(expected.len()).any(|part| part == expected.as_bytes()) {
        return Ok(());
    }
    let first = String::from_utf8_lossy(&text);
    let first: String = first.lines().next().unwrap_or("nothing").chars().take(60).collect();
    let why = format!("it leads to {to}, where somebody else answers: `{first}`");
    Err(not_here(question.host, why))
}

/// By whose name CAA records know an authority we know.
fn caa_name(directory: &str) -> Option<&'static str> {
    let host = directory.split('/').nth(2)?;
    let known = [
        ("letsencrypt.org", "letsencrypt.org"),
        ("pki.goog", "pki.goog"),
        ("zerossl.com", "sectigo.com"),
        ("buypass.com", "buypass.com"),
    ];
    known.iter().find(|(end, _)| host.ends_with(end)).map(|(_, name)| *name)
}

fn may_sign(host: &str, directory: &str, records: &[Caa]) -> Result<(), Problem> {
    let issuers: Vec<&str> = records
        .iter()
        .filter(|record| record.tag == "issue")
        .map(|record| record.value.split(';').next().unwrap_or_default().trim())
        .collect();
    let is_allowed = match caa_name(directory) {
        Some(own) => issuers.is_empty() || issuers.contains(&own),
        None => issuers.is_empty() || issuers.iter().any(|issuer| !issuer.is_empty()),
    };
    if is_allowed {
        return Ok(());
    }
    let named: Vec<_> = issuers.into_iter().filter(|issuer| !issuer.is_empty()).collect();
    let why = match named.as_slice() {
        [] => "its CAA record says that nobody may".to_owned(),
        named => format!("its CAA record names {} only", named.join(", ")),
    };
    Err(Problem::new(Code::AuthorityNotAllowed, format!("no certificate was ordered for `{host}`"))
        .why(why)
        .still("no try was spent, and what is shown now is shown on")
        .next(format!("add to its zone: {host}. CAA 0 issue \"<the authority>\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caa_records_forbid_what_they_forbid() {
        let encrypt = "https://acme-v02.api.letsencrypt.org/directory";
        let check = |directory: &str, records: &[(&str, &str)]| {
            let record = |(tag, value): &(&str, &str)| Caa {
                tag: (*tag).to_owned(),
                value: (*value).to_owned(),
            };
            let records: Vec<_> = records.iter().map(record).collect();
            may_sign("a.example", directory, &records).map_err(|problem| problem.why.unwrap())
        };
        assert_eq!(check(encrypt, &[]), Ok(()));
        assert_eq!(check(encrypt, &[("issue", "letsencrypt.org; x=y")]), Ok(()));
        assert_eq!(check(encrypt, &[("iodef", "mailto:a@b")]), Ok(()));
        let other = check(encrypt, &[("issue", "digicert.com")]).unwrap_err();
        assert_eq!(other, "its CAA record names digicert.com only");
        let nobody = check("https://ca.internal/dir", &[("issue", ";")]).unwrap_err();
        assert_eq!(nobody, "its CAA record says that nobody may");
        assert_eq!(check("https://ca.internal/dir", &[("issue", "x.example")]), Ok(()));
    }
}
