//! One order to its end, phase by phase. Each phase is stored before it is worked on; a daemon that
//! died goes on where the row says.

use std::time::Duration;

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier,
    NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use jiff::Timestamp;
use model::certificate::{PrivateKey, ServerCertificate};
use model::event::Event;
use model::id::CertificateId;
use model::order::OrderPhase;
use model::problem::{Code, Problem};
use rcgen::{CertificateParams, CustomExtension, KeyPair};

use super::Orders;
use super::preflight::{self, Question};
use crate::certificates::check;
use crate::config::Challenge;
use crate::failpoints;
use crate::process::Invocation;
use crate::store::certificates::Certificate;
use crate::store::orders::Order;
use crate::store::{self, StoreError};

const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));
/// An authority may forget the numbers it gave out, and then a request is to be made again with a new one
/// (RFC 8555, 6.5). The library does so twice; a busy authority forgets more.
const MOST_STALE: u32 = 5;
const HOOK_LIMIT: Duration = Duration::from_secs(600);

impl Orders {
    /// Works on it until it is over, and writes down how it ended.
    pub(super) async fn drive(&self, mut order: Order) {
        let host = order.host.clone();
        tracing::info!(%host, phase = ?order.phase, "working on a certificate");
        let mut stale = 0;
        let ended = loop {
            match self.advance(&mut order).await {
                // Every phase can be begun again, as after a restart.
                Err(problem) if is_stale(&problem) && stale < MOST_STALE => stale += 1,
                ended => break ended,
            }
        };
        if let Err(problem) = ended {
            tracing::warn!(%host, %problem, "no certificate");
            order.failures += 1;
            order.problem = Some(problem);
            if let Err(error) = self.store_step(&mut order, OrderPhase::Failed, None).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot note it");
            }
        }
        self.inner.certificates.withdraw(host.as_str());
        self.inner.certificates.order_ended();
    }

    async fn advance(&self, order: &mut Order) -> Result<(), Problem> {
        loop {
            match order.phase {
                OrderPhase::Checking => {
                    self.note(order).await?;
                    self.check(order).await?;
                    self.step(order, OrderPhase::Ordering).await?;
                }
                OrderPhase::Ordering => {
                    let account = self.account(order).await?;
                    let names = [Identifier::Dns(order.host.to_string())];
                    let made = account.new_order(&NewOrder::new(&names)).await;
                    order.url = Some(made.map_err(|error| failed(order, &error))?.url().to_owned());
                    self.step(order, OrderPhase::Proving).await?;
                }
                OrderPhase::Proving => {
                    let account = self.account(order).await?;
                    self.prove(order, &account).await?;
                    self.step(order, OrderPhase::Finalizing).await?;
                }
                OrderPhase::Finalizing => {
                    let account = self.account(order).await?;
                    let chain = self.finalize(order, &account).await?;
                    return self.keep_certificate(order, &chain).await;
                }
                OrderPhase::Issued | OrderPhase::Failed => return Ok(()),
            }
        }
    }

    /// The row of a new order.
    async fn note(&self, order: &Order) -> Result<(), Problem> {
        let row = order.clone();
        let noted = self.inner.store.run(move |tx| store::orders::put(tx, &row)).await;
        noted.map_err(|error| not_stored(&error))?;
        failpoints::hit("order.checking");
        Ok(())
    }

    async fn check(&self, order: &Order) -> Result<(), Problem> {
        let token = crate::secrets::new_token();
        let answer = crate::secrets::new_token();
        let host = order.host.as_str();
        self.inner.certificates.answer(host, &token, &answer);
        self.tell().await?;
        let probe = (token.as_str(), answer.as_str());
        let question = Question { host, acme: &self.inner.acme, probe };
        preflight::check(&self.inner.resolver, &question).await
    }

    async fn step(&self, order: &mut Order, to: OrderPhase) -> Result<(), Problem> {
        let stored = self.store_step(order, to, None).await;
        stored.map_err(|error| not_stored(&error))
    }

    /// The change of phase, its event and what it brought, in one transaction.
    async fn store_step(
        &self,
        order: &mut Order,
        to: OrderPhase,
        certificate: Option<Certificate>,
    ) -> Result<(), StoreError> {
        match order.phase.step(to) {
            Ok(phase) => order.phase = phase,
            Err(error) => {
                tracing::error!(%error, "not a step");
                return Ok(());
            }
        }
        order.updated_at = Timestamp::now();
        let row = order.clone();
        let stored = self.inner.store.run(move |tx| {
            store::orders::put(tx, &row)?;
            if let Some(certificate) = certificate {
                store::certificates::put(tx, &certificate)?;
            }
            let event = Event::OrderMoved { host: row.host.to_string(), phase: row.phase };
            store::events::append(tx, Some(row.app), None, &event, row.updated_at)
        });
        stored.await?;
        failpoints::hit(match to {
            OrderPhase::Checking => "order.checking",
            OrderPhase::Ordering => "order.ordering",
            OrderPhase::Proving => "order.proving",
            OrderPhase::Finalizing => "order.finalizing",
            OrderPhase::Issued => "order.issued",
            OrderPhase::Failed => "order.failed",
        });
        Ok(())
    }

    /// The account at the authority, made at first use; its key is sealed in the store.
    async fn account(&self, order: &Order) -> Result<Account, Problem> {
        if let Some(account) = self.kept_account(order).await? {
            return Ok(account);
        }
        // Of two orders that begin together one makes it: the other's would be stored over it, and the
        // authority knows each order by its account.
        let _alone = self.inner.account.lock().await;
        match self.kept_account(order).await? {
            Some(account) => Ok(account),
            None => self.make_account(order).await,
        }
    }

    async fn kept_account(&self, order: &Order) -> Result<Option<Account>, Problem> {
        let name = self.account_name();
        let kept = self.inner.store.run(move |tx| store::certificates::authority(tx, &name)).await;
        let kept = kept.map_err(|error| not_stored(&error))?;
        let credentials: Option<AccountCredentials> =
            kept.and_then(|(_, key)| serde_json::from_str(key.expose()).ok());
        let Some(credentials) = credentials else { return Ok(None) };
        let account = self.account_builder().from_credentials(credentials).await;
        account.map(Some).map_err(|error| failed(order, &error))
    }

    async fn make_account(&self, order: &Order) -> Result<Account, Problem> {
        let acme = &self.inner.acme;
        let name = self.account_name();
        let contact = acme.contact.as_ref().map(|contact| format!("mailto:{contact}"));
        let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contacts,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let made = self.account_builder().create(&account, acme.directory.clone(), None).await;
        let (account, credentials) = made.map_err(|error| failed(order, &error))?;
        let text = serde_json::to_string(&credentials).expect("credentials are plain data");
        let id = account.id().to_owned();
        let put = self.inner.store.run(move |tx| {
            store::certificates::put_authority(tx, &name, &id, &PrivateKey::new(text))
        });
        put.await.map_err(|error| not_stored(&error))?;
        Ok(account)
    }

    fn account_name(&self) -> String {
        format!("acme {}", self.inner.acme.directory)
    }

    fn account_builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(self.inner.http.clone()))
    }

    async fn remote(
        &self,
        order: &Order,
        account: &Account,
    ) -> Result<instant_acme::Order, Problem> {
        let url = order.url.clone().unwrap_or_default();
        account.order(url).await.map_err(|error| failed(order, &error))
    }

    async fn prove(&self, order: &Order, account: &Account) -> Result<(), Problem> {
        let mut remote = self.remote(order, account).await?;
        let kind = match self.inner.acme.challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Dns01 => ChallengeType::Dns01,
        };
        let mut hooked = Vec::new();
        let mut authorizations = remote.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| failed(order, &error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                let why = format!("the authority does not offer {}", self.inner.acme.challenge);
                return Err(refused(order, why));
            };
            let answer = challenge.key_authorization();
            let host = order.host.as_str();
            match self.inner.acme.challenge {
                Challenge::Http01 => {
                    self.inner.certificates.answer(host, &challenge.token, answer.as_str());
                    self.tell().await?;
                }
                Challenge::TlsAlpn01 => {
                    let proof = proof(host, answer.digest().as_ref());
                    let proof = proof.map_err(|error| refused(order, error.to_string()))?;
                    self.inner.certificates.prove(host, proof);
                    self.tell().await?;
                }
                Challenge::Dns01 => {
                    let value = answer.dns_value();
                    self.hook("present", order, &value).await?;
                    hooked.push(value);
                }
            }
            challenge.set_ready().await.map_err(|error| failed(order, &error))?;
        }
        let ended = remote.poll_ready(&PATIENCE).await;
        for value in hooked {
            // What is left in the zone is no harm, and said by the hook itself.
            let _left = self.hook("cleanup", order, &value).await;
        }
        match ended.map_err(|error| failed(order, &error))? {
            OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing => Ok(()),
            OrderStatus::Invalid | OrderStatus::Pending => {
                Err(refused(order, why_invalid(&mut remote).await))
            }
        }
    }

    async fn finalize(&self, order: &Order, account: &Account) -> Result<String, Problem> {
        let mut remote = self.remote(order, account).await?;
        if remote.state().status == OrderStatus::Ready {
            let csr = request(order).map_err(|error| refused(order, error.to_string()))?;
            remote.finalize_csr(&csr).await.map_err(|error| failed(order, &error))?;
        }
        remote.poll_certificate(&PATIENCE).await.map_err(|error| failed(order, &error))
    }

    async fn keep_certificate(&self, order: &mut Order, chain: &str) -> Result<(), Problem> {
        let now = Timestamp::now();
        let hosts = [order.host.to_string()];
        let checked = check::pair(chain, order.key.expose(), &hosts, now)?;
        let (app, host) = (order.app, order.host.clone());
        let old = self.inner.store.run(move |tx| store::certificates::list(tx, app)).await;
        let old = old.map_err(|error| not_stored(&error))?.into_iter().find(|one| {
            one.is_automatic && one.facts.names.iter().any(|name| name.as_str() == host.as_str())
        });
        let id = order.id.0.simple().to_string();
        let (facts, key) = (checked.facts, checked.key);
        let certificate = match old {
            Some(old) => Certificate { facts, key, updated_at: now, ..old },
            None => Certificate {
                id: CertificateId(order.id.0),
                app,
                name: format!("auto-{}", &id[id.len() - 12..]),
                is_automatic: true,
                facts,
                key,
                created_at: now,
                updated_at: now,
            },
        };
        order.failures = 0;
        let stored = self.store_step(order, OrderPhase::Issued, Some(certificate)).await;
        stored.map_err(|error| not_stored(&error))?;
        self.inner.certificates.withdraw(order.host.as_str());
        if let Err(error) = self.inner.certificates.publish().await {
            // It is stored; the one who tells the proxy tries again.
            tracing::warn!(error = &error as &dyn std::error::Error, "not told yet");
            self.inner.certificates.wake();
        }
        Ok(())
    }

    async fn tell(&self) -> Result<(), Problem> {
        self.inner.certificates.publish().await.map_err(|error| {
            Problem::new(Code::ProxyDown, "the proxy did not take the challenge")
                .why(error.to_string())
                .still("no try was spent")
                .next("wharf status")
        })
    }

    async fn hook(&self, verb: &str, order: &Order, value: &str) -> Result<(), Problem> {
        let Some(program) = &self.inner.acme.dns_hook else {
            return Err(refused(order, "dns-01 needs `acme_dns_hook`".to_owned()));
        };
        let name = format!("_acme-challenge.{}", order.host);
        let call = Invocation::new(program).arg(verb).arg(&name).arg(value).limit(HOOK_LIMIT);
        match call.run().await {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(order, error.to_string())),
        }
    }
}

/// The certificate that proves a name in a handshake (RFC 8737).
fn proof(host: &str, digest: &[u8]) -> Result<ServerCertificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let chain = params.self_signed(&key)?.pem();
    let names = host.parse().into_iter().collect();
    Ok(ServerCertificate { names, chain, key: PrivateKey::new(key.serialize_pem()) })
}

/// What the authority is asked to sign.
fn request(order: &Order) -> Result<Vec<u8>, rcgen::Error> {
    let key = KeyPair::from_pem(order.key.expose())?;
    let mut params = CertificateParams::new([order.host.to_string()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(&key)?.der().to_vec())
}

/// What the authority found when it looked.
async fn why_invalid(remote: &mut instant_acme::Order) -> String {
    let mut authorizations = remote.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let mut errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        if let Some(error) = errors.next() {
            return error.detail.clone().unwrap_or_else(|| error.to_string());
        }
    }
    "the authority did not say why".to_owned()
}

fn failed(order: &Order, error: &instant_acme::Error) -> Problem {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        why.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    refused(order, why)
}

fn is_stale(problem: &Problem) -> bool {
    problem.why.as_deref().is_some_and(|why| why.contains("urn:ietf:params:acme:error:badNonce"))
}

fn refused(order: &Order, why: String) -> Problem {
    Problem::new(Code::CertificateNotIssued, format!("no certificate for `{}`", order.host))
        .why(why)
        .still("what is shown now is shown on; the next try comes by itself")
        .next("wharf certs:history")
}

fn not_stored(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "an order cannot be stored");
    Problem::new(Code::StoreFailed, "the order could not be noted").why(error.to_string())
}
