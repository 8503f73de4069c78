//! Names nobody has, claimed by the first visitor: the proxy tells of a name somebody waits for, the apps
//! that have an ask rule are asked whose it is, and the one that knows it gets it as its domain.
//!
//! ```text
//! proxy: `UnknownHost` ─► whose? ─► an app's already ───────────────► wait for its certificate
//!                           └► nobody's ─► asked ─► 200: `domains::add` ─┘        │
//!                                            └► no ─► turned away ◄── no hope ◄───┘
//! ```
//!
//! Nothing here is remembered but what may be forgotten: which names are being asked about, and which
//! were refused a moment ago. What was claimed is a release, an event and an order like any other. See
//! docs/decisions/0009-names-are-claimed-by-the-first-visitor.md.

mod ask;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::claim::{AskRule, Begin, Ledger, claimable};
use model::id::AppId;
use model::name::DomainName;
use model::problem::Problem;
use proxy::control::{Event, Events};
use tokio::sync::Semaphore;

use crate::apps::domains;
use crate::certificates::acme::{Hope, hope};
use crate::context::Context;
use crate::deploy::store_problem;
use crate::store::{self, StoreError, Tx};

use ask::Asker;

/// Who made the releases of claimed domains.
pub const ON_DEMAND: &str = "on-demand";

/// So many names are asked about at once.
const AT_ONCE: usize = 4;
/// So many names an app may claim within an hour: public authorities bound their orders, too.
const MOST_AN_HOUR: u64 = 100;
/// An order that takes longer is not waited for. Handshakes have given up long before.
const ORDER_LIMIT: Duration = Duration::from_secs(120);
/// Who comes while too many names are asked about may come again after this.
const TOO_MANY: SignedDuration = SignedDuration::from_secs(5);
/// Between two tries to hear the proxy.
const HEAR_AGAIN: Duration = Duration::from_secs(1);

/// Finds out whose unknown names are.
#[derive(Debug, Clone)]
struct Claims {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Context,
    asker: Asker,
    ledger: Mutex<Ledger>,
    turns: Semaphore,
}

/// How it went with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Who waits for it is served, or will be.
    Served,
    /// Nobody is to wait for it for now.
    Refused,
}

/// Whose a name is.
enum Whose {
    Owned(AppId),
    /// Those to ask, in order of their names.
    Nobodys(Vec<(AppId, AskRule)>),
}

/// Begins to listen to the proxy, and to look who has an ask rule.
pub fn spawn(context: &Context) {
    let asker = match Asker::new(context) {
        Ok(asker) => asker,
        Err(error) => return tracing::error!(%error, "no names will be asked about"),
    };
    let inner = Inner {
        context: context.clone(),
        asker,
        ledger: Mutex::default(),
        turns: Semaphore::new(AT_ONCE),
    };
    let claims = Claims { inner: Arc::new(inner) };
    context.tasks.spawn_until_stop("claims", claims.listen());
    context.tasks.spawn_until_stop("ask rules", tell_of_rules(context.clone()));
}

/// Has the proxy told when the first rule goes live with a release, or the last one goes.
async fn tell_of_rules(context: Context) {
    let mut lives = context.deploys.lives();
    let mut told = None;
    loop {
        lives.borrow_and_update();
        let has_any =
            context.store.run(|tx| Ok::<_, StoreError>(!store::asks::list(tx)?.is_empty()));
        match has_any.await {
            Ok(has_any) if told != Some(has_any) => {
                context.certificates.wake();
                told = Some(has_any);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot look");
            }
        }
        if lives.changed().await.is_err() {
            return;
        }
    }
}

impl Claims {
    async fn listen(self) {
        loop {
            match self.inner.context.link.events().await {
                Ok(events) => self.hear(events).await,
                Err(error) => tracing::debug!(%error, "the proxy cannot be heard"),
            }
            tokio::time::sleep(HEAR_AGAIN).await;
        }
    }

    /// Until the worker is gone; the next one says again what is waited for.
    async fn hear(&self, mut events: Events) {
        loop {
            match events.next().await {
                Ok(Event::UnknownHost { host }) => self.begin(host).await,
                Ok(Event::EndpointDown { .. } | Event::RequestHeld { .. }) => {}
                Err(error) => return tracing::debug!(%error, "the proxy is not heard any more"),
            }
        }
    }

    async fn begin(&self, host: DomainName) {
        let begin = self.ledger().begin(&host, Timestamp::now());
        match begin {
            Begin::Ask => {
                let own = self.clone();
                let work = async move { own.see_to(host).await };
                self.inner.context.tasks.spawn_until_stop("claim", work);
            }
            Begin::UnderWay => {}
            Begin::Refused(left) => self.turn_away(&host, left).await,
            Begin::Full => self.turn_away(&host, TOO_MANY).await,
        }
    }

    async fn see_to(&self, host: DomainName) {
        let end = self.settle(&host).await.unwrap_or_else(|problem| {
            tracing::warn!(%host, %problem, "a name cannot be asked about");
            End::Refused
        });
        let is_refused = end == End::Refused;
        self.ledger().end(&host, is_refused, Timestamp::now());
        if is_refused {
            self.turn_away(&host, Ledger::REFUSED_FOR).await;
        }
    }

    async fn settle(&self, host: &DomainName) -> Result<End, Problem> {
        let context = &self.inner.context;
        if claimable(host.as_str(), &context.config.domain).is_none() {
            return Ok(End::Refused);
        }
        let own = host.clone();
        let whose = context.store.run(move |tx| whose(tx, &own)).await;
        let app = match whose.map_err(|error| store_problem(&error))? {
            Whose::Owned(app) => app,
            Whose::Nobodys(rules) => match self.ask(host, rules).await? {
                Some(app) => app,
                None => return Ok(End::Refused),
            },
        };
        self.wait_certificate(app, host).await
    }

    /// Asks one after the other; the first that says yes has the name as its domain then.
    async fn ask(
        &self,
        host: &DomainName,
        rules: Vec<(AppId, AskRule)>,
    ) -> Result<Option<AppId>, Problem> {
        for (app, rule) in rules {
            let asked = format!("{host}: {}", self.inner.asker.name(&rule, host));
            let answer = {
                // Never closed, and with a turn or without: it is a question.
                let _turn = self.inner.turns.acquire().await;
                self.inner.asker.ask(app, &rule, host).await
            };
            match answer {
                Ok(200) => {
                    self.say(app, &format!("{asked} answered 200, so it is this app's"));
                    if self.claim(app, host).await? {
                        return Ok(Some(app));
                    }
                }
                Ok(status) => self.say(app, &format!("{asked} answered {status}: not this app's")),
                Err(why) => self.say(app, &format!("{asked} did not answer, {why}: refused")),
            }
        }
        Ok(None)
    }

    async fn claim(&self, app: AppId, host: &DomainName) -> Result<bool, Problem> {
        let context = &self.inner.context;
        let hour = SignedDuration::from_hours(1);
        let since = Timestamp::now().checked_sub(hour).unwrap_or(Timestamp::MIN);
        let claimed =
            context.store.run(move |tx| store::releases::count(tx, app, ON_DEMAND, since));
        if claimed.await.map_err(|error| store_problem(&error))? >= MOST_AN_HOUR {
            let said = format!("{host}: refused, {MOST_AN_HOUR} names were claimed within an hour");
            self.say(app, &said);
            return Ok(false);
        }
        match self.add(app, host).await {
            Ok(()) => Ok(true),
            Err(problem) => {
                self.say(app, &format!("{host}: cannot be added: {}", problem.what));
                Ok(false)
            }
        }
    }

    /// Adds the domain; returns when it is routed, or after a while.
    async fn add(&self, app: AppId, host: &DomainName) -> Result<(), Problem> {
        let context = &self.inner.context;
        let (_, _, frozen) =
            domains::add(context, &app.to_string(), host.as_str(), ON_DEMAND).await?;
        let deploy = frozen.and_then(|frozen| frozen.deploy).map(|deploy| deploy.id);
        context.deploys.wait_seen(app, deploy).await.map(drop)
    }

    /// Waits until the certificate of a name that is an app's is there, or there is no hope of one.
    async fn wait_certificate(&self, app: AppId, host: &DomainName) -> Result<End, Problem> {
        let context = &self.inner.context;
        if context.certificates.has_authority() {
            // The proxy signs for whatever is routed.
            return Ok(End::Served);
        }
        let can_be_ordered = context.certificates.may_be_ordered(host);
        let deadline = tokio::time::Instant::now() + ORDER_LIMIT;
        let mut ended = context.certificates.ended_orders();
        loop {
            ended.borrow_and_update();
            let own = host.clone();
            let found = context.store.run(move |tx| hope(tx, (app, &own), Timestamp::now())).await;
            match found.map_err(|error| store_problem(&error))? {
                Hope::Fulfilled => {
                    // Who waits still was not told.
                    context.certificates.wake();
                    return Ok(End::Served);
                }
                Hope::Open if can_be_ordered => {}
                Hope::Open => {
                    self.say(app, &format!("{host}: no certificate, no authority is set for it"));
                    return Ok(End::Refused);
                }
                Hope::Lost(problem) => {
                    let why = problem.map(|problem| problem.why.unwrap_or(problem.what));
                    let why = why.unwrap_or_else(|| "the last try failed".to_owned());
                    self.say(app, &format!("{host}: no certificate, {why}"));
                    return Ok(End::Refused);
                }
            }
            match tokio::time::timeout_at(deadline, ended.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(End::Refused),
            }
        }
    }

    async fn turn_away(&self, host: &DomainName, keep: SignedDuration) {
        let keep = Duration::try_from(keep).unwrap_or_default();
        if let Err(error) = self.inner.context.link.turn_away(host, keep).await {
            tracing::warn!(%host, %error, "who waits for a name cannot be turned away");
        }
    }

    fn say(&self, app: AppId, text: &str) {
        self.inner.context.logs.say(app, "ask", text);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.inner.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whose(tx: &Tx<'_>, host: &DomainName) -> Result<Whose, StoreError> {
    Ok(match store::domains::find_owner(tx, host)? {
        Some(app) => Whose::Owned(app),
        None => Whose::Nobodys(store::asks::list(tx)?),
    })
}
