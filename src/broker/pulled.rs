//! A source over a broker that is asked for jobs.
//!
//! One task owns all that is known: what each pool wants, what was delivered, outcomes that the broker does not have
//! yet, and which calls are on their way. A pool with room claims until a claim finds less than it wanted, and then waits
//! until the broker says that there may be more. One claim a pool, one settlement and one wait a pool are on their way at
//! a time; what ends meanwhile goes with the next.

mod begins;
mod late;
mod message;
mod outbox;
mod pool;
mod progress;
mod upkeep;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use self::begins::Begins;
use self::late::fates;
use self::message::{Answer, Kind, Outcome};
use self::outbox::{Outbox, runs_at_once};
use self::pool::Pool;
use self::progress::News;
use self::upkeep::{Upkeep, maintained};
use super::parts::backoff::Backoff;
use super::parts::held::Held;
use super::parts::inbox::{self, Message};
use super::source::{Event, Events, Late, Source};
use super::{BrokerError, Pull};
use crate::job::{Begun, Claim, Claimed, Delivery, PoolName, Settlement, Verdict, Work};
use crate::time::Mono;

/// Deliveries that one claim brings.
const BATCH_MAX: usize = 4096;
/// How long a stop waits for the answer of a claim that is on its way.
const UNANSWERED: Duration = Duration::from_secs(2);
/// A wait for jobs that was refused, and now stands for so long, works: a connection fails sooner.
const STANDS: Duration = Duration::from_secs(10);

/// Starts a source over this broker, and renews its lease so often while something is held.
///
/// Must be called inside a tokio runtime.
pub fn start(broker: Arc<dyn Pull>, heartbeat: Duration, events: Events) -> Box<dyn Source> {
    let pulled = Pulled::new(broker, heartbeat, events.clone());
    inbox::start(events, |inbox| pulled.run(inbox))
}

/// The task.
#[derive(Debug)]
struct Pulled {
    broker: Arc<dyn Pull>,
    events: Events,
    pools: BTreeMap<PoolName, Pool>,
    /// Deliveries that have not ended, with the broker's own claims.
    held: Held<Claim>,
    begins: Begins,
    /// How far those are that say so.
    news: News,
    /// Hears of those that are called off; with the number of this watch.
    watch: Option<(AbortHandle, u64)>,
    watches: u64,
    outbox: Outbox,
    calls: JoinSet<Answer>,
    backoffs: BTreeMap<Kind, Backoff>,
    upkeep: Upkeep,
    closing: Option<Closing>,
    rng: fastrand::Rng,
}

/// The end of a source.
#[derive(Debug)]
struct Closing {
    until: Mono,
    /// Until when claims may be answered.
    answers_until: Mono,
    unsettled: oneshot::Sender<usize>,
}

impl Pulled {
    fn new(broker: Arc<dyn Pull>, heartbeat: Duration, events: Events) -> Self {
        Pulled {
            begins: Begins::new(broker.stops_by_mark()),
            news: News::default(),
            watch: None,
            watches: 0,
            broker,
            events,
            pools: BTreeMap::new(),
            held: Held::default(),
            outbox: Outbox::default(),
            calls: JoinSet::new(),
            backoffs: BTreeMap::new(),
            upkeep: Upkeep::new(heartbeat, Mono::now()),
            closing: None,
            rng: fastrand::Rng::new(),
        }
    }

    async fn run(mut self, mut inbox: UnboundedReceiver<Message>) {
        loop {
            let now = Mono::now();
            self.pump(now);
            if self.is_closed(now) {
                return self.finish().await;
            }
            let next = self.next_deadline(now);
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep(at.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                message = inbox.recv(), if self.closing.is_none() => match message {
                    Some(message) => self.hear(message),
                    // The supervisor is gone, and left no word: the lease tells others.
                    None => return,
                },
                Some(answer) = self.calls.join_next() => self.take(answer),
                () = due => {}
            }
            while let Ok(message) = inbox.try_recv() {
                self.hear(message);
            }
            while let Some(answer) = self.calls.try_join_next() {
                self.take(answer);
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Demand(demand) => self.pools.entry(demand.pool.clone()).or_default().want(demand),
            Message::Began(begun) => {
                let now = Mono::now();
                for Begun { token, .. } in begun {
                    assert!(
                        self.held.get(token).is_some(),
                        "delivery {token} begins after its end"
                    );
                    self.begins.began(token, now);
                }
            }
            Message::Progress(of, progress) => self.news.progressed(of, progress),
            Message::Settle(outcomes) => {
                for Settlement { of, verdict, run } in outcomes {
                    self.begins.ended(of);
                    self.news.ended(of);
                    let (token, of) = (Some(of), self.held.end(of));
                    let settlement = Settlement { of, verdict, run };
                    self.outbox.push(Outcome { settlement, token });
                }
            }
            Message::Close { within, unsettled } => {
                let now = Mono::now();
                self.closing = Some(Closing {
                    until: now + within,
                    answers_until: now + UNANSWERED.min(within),
                    unsettled,
                });
                self.pools.values_mut().for_each(Pool::stop_waiting);
            }
        }
    }

    fn take(&mut self, answer: Result<Answer, JoinError>) {
        let now = Mono::now();
        match answer {
            Ok(Answer::Claimed { pool, wanted, result }) => self.claimed(&pool, wanted, result, now),
            Ok(Answer::Ready { pool, result }) => self.ready(&pool, result, now),
            Ok(Answer::Settled { sent, result }) => self.settled(sent, result, now),
            Ok(Answer::Noted { tokens, result }) => {
                if self.check(Kind::Begin, result, now).is_none() {
                    self.begins.not_noted(&tokens, now);
                }
            }
            Ok(Answer::Told(result)) => {
                self.news.told();
                self.check(Kind::Progress, result, now);
            }
            Ok(Answer::CalledOff { watch, result }) => self.called_off(watch, result, now),
            Ok(Answer::Renewed(result)) => {
                self.upkeep.renewed();
                if self.check(Kind::Renew, result, now).is_none() {
                    let again = self.backoff(Kind::Renew).next(now);
                    self.upkeep.renews_again(again);
                }
            }
            Ok(Answer::Maintained(result)) => maintained(result),
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    /// A claim came back. What nobody wants any more goes back at once.
    fn claimed(
        &mut self,
        name: &PoolName,
        wanted: usize,
        result: Result<Vec<Claimed>, BrokerError>,
        now: Mono,
    ) {
        let count = result.as_ref().ok().map(Vec::len);
        let jobs = self.check(Kind::Take, result, now).unwrap_or_default();
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let of_jobs = jobs.iter().rev().find(|claimed| claimed.job.work == Work::Job);
        let last = of_jobs.map(|claimed| &claimed.job.queue);
        pool.claimed(count.is_some_and(|count| count < wanted), last);
        let mut delivered = Vec::with_capacity(jobs.len());
        for Claimed { claim, job } in jobs {
            if self.closing.is_none() && pool.room.has(job.work) {
                pool.room.deliver(job.work);
                let token = self.held.add(claim);
                let tells_begin = job.work == Work::Job;
                if tells_begin {
                    self.begins.delivered(token, now);
                }
                delivered.push(Delivery {
                    token,
                    tells_begin,
                    job,
                });
            } else {
                let settlement = Settlement {
                    of: claim,
                    verdict: Verdict::GiveBack,
                    run: None,
                };
                let token = None;
                self.outbox.push(Outcome { settlement, token });
            }
        }
        pool.room.release();
        if !delivered.is_empty() {
            let (pool, jobs) = (name.clone(), delivered);
            self.events.send(Event::Delivered { pool, jobs });
        }
    }

    fn ready(&mut self, name: &PoolName, result: Result<(), BrokerError>, now: Mono) {
        let came = self.check(Kind::Wait, result, now).is_some();
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        if pool.ready(came) {
            self.events.send(Event::Waiting { pool: name.clone() });
        }
    }

    /// Outcomes were settled; those that the broker did not take are tried again.
    fn settled(&mut self, sent: Vec<Outcome>, result: Result<Vec<Option<Late>>, BrokerError>, now: Mono) {
        self.upkeep.work_goes_on();
        let Some(fates) = self.check(Kind::Settle, result, now) else {
            return self.outbox.came_back(sent);
        };
        assert_eq!(sent.len(), fates.len(), "one answer for each outcome");
        // What was put back, or enqueued by what the runtime settled itself, can be claimed at once.
        let look = sent
            .iter()
            .any(|outcome| runs_at_once(&outcome.settlement.verdict));
        let known = sent.iter().zip(fates);
        let known: Vec<_> = known
            .filter_map(|(outcome, late)| Some((outcome.token?, late)))
            .collect();
        self.outbox.arrived(known.len());
        for pool in self.pools.values_mut() {
            // Others may have waited for these jobs to end.
            if look || pool.must_look_again() {
                pool.look_again();
            }
        }
        if !known.is_empty() {
            let count = known.len();
            let late = known.into_iter().filter_map(|(token, late)| Some((token, late?)));
            let late = late.collect();
            self.events.send(Event::Settled { count, late });
        }
    }

    /// Takes note of the broker's health. Returns what it said, if it was well.
    fn check<T>(&mut self, kind: Kind, result: Result<T, BrokerError>, now: Mono) -> Option<T> {
        let jitter = self.rng.f64();
        let backoff = self.backoffs.entry(kind).or_default();
        match result {
            Ok(value) => {
                if backoff.worked() {
                    self.events.send(Event::Well { doing: kind.doing() });
                }
                Some(value)
            }
            Err(error) => {
                backoff.failed(now, jitter);
                self.events.send(Event::Trouble {
                    doing: kind.doing(),
                    error: Arc::new(error),
                });
                None
            }
        }
    }

    fn backoff(&mut self, kind: Kind) -> &mut Backoff {
        self.backoffs.entry(kind).or_default()
    }

    fn may_try(&mut self, kind: Kind, now: Mono) -> bool {
        self.backoff(kind).may_try(now)
    }

    /// Calls of this kind do not wait for their next try.
    fn is_well(&self, kind: Kind, now: Mono) -> bool {
        self.backoffs
            .get(&kind)
            .is_none_or(|backoff| backoff.may_try(now))
    }

    /// The next instant at which something is due.
    fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let backoffs = self.backoffs.values().filter_map(|backoff| backoff.next(now));
        let closing = self.closing.as_ref();
        let closing = closing.map(|closing| match self.claims() {
            0 => closing.until,
            _ => closing.answers_until.max(now),
        });
        let stands = self.pools.values().filter_map(|pool| pool.stands_at(STANDS));
        let is_waiting_in_vain = self.backoffs.get(&Kind::Wait).is_some_and(Backoff::is_failing);
        backoffs
            .chain(self.upkeep.next_renewal())
            .chain(self.closing.is_none().then(|| self.upkeep.next_maintenance()))
            .chain(
                self.begins
                    .deadline()
                    .filter(|_| self.closing.is_none() && self.may_watch(now)),
            )
            .chain(
                self.news
                    .deadline()
                    .filter(|_| self.closing.is_none() && self.is_well(Kind::Progress, now)),
            )
            .chain(closing)
            .chain(stands.filter(|_| is_waiting_in_vain))
            .min()
    }

    /// Starts what can be started now.
    fn pump(&mut self, now: Mono) {
        self.keep_up(now);
        self.note_waits_that_stand(now);
        self.watch_begins(now);
        self.tell_news(now);
        self.send_outbox(now);
        if self.closing.is_some() || self.outbox.is_full() {
            return;
        }
        let may_take = self.may_try(Kind::Take, now);
        let may_wait = self.may_try(Kind::Wait, now);
        for (name, pool) in &mut self.pools {
            // Without waiting, claims would be all that is left, over and over.
            if pool.wants_to_claim() && may_take && may_wait {
                let (queues, turns, wanted) = pool.begin_claim(BATCH_MAX);
                let (broker, pool_name) = (self.broker.clone(), name.clone());
                let only_after_work = pool.room.jobs() == 0;
                pool.claim = Some(self.calls.spawn(async move {
                    let result = if only_after_work {
                        broker.claim_after_work(&queues, wanted).await
                    } else {
                        broker.claim(&queues, turns, wanted).await
                    };
                    Answer::Claimed {
                        pool: pool_name,
                        wanted,
                        result,
                    }
                }));
            } else if pool.wants_to_wait() && may_wait {
                let (broker, pool_name, queues) = (self.broker.clone(), name.clone(), pool.queues());
                let wait = self.calls.spawn(async move {
                    let result = broker.ready(&queues).await;
                    Answer::Ready {
                        pool: pool_name,
                        result,
                    }
                });
                pool.wait = Some((wait, now));
            }
        }
        self.tell_empty();
    }

    fn send_outbox(&mut self, now: Mono) {
        if !self.outbox.wants_to_send() || !self.may_try(Kind::Settle, now) {
            return;
        }
        let sent = self.outbox.send();
        let broker = self.broker.clone();
        self.calls.spawn(async move {
            let settlements = sent.iter().map(|outcome| outcome.settlement.clone()).collect();
            let result = match broker.settle(settlements).await {
                Ok(taken) => Ok(fates(broker.as_ref(), &sent, &taken).await),
                Err(error) => Err(error),
            };
            Answer::Settled { sent, result }
        });
    }

    /// Tells the broker how far jobs are.
    fn tell_news(&mut self, now: Mono) {
        if self.closing.is_some() || !self.may_try(Kind::Progress, now) {
            return;
        }
        let news = self.news.due(now).into_iter();
        let news: Vec<_> = news
            .filter_map(|(token, progress)| Some((self.held.get(token)?.clone(), progress)))
            .collect();
        if !news.is_empty() {
            let broker = self.broker.clone();
            self.calls
                .spawn(async move { Answer::Told(broker.note_progress(news).await) });
        }
    }

    /// Renews the lease, and keeps house at the broker, when that is due.
    fn keep_up(&mut self, now: Mono) {
        let holds = !self.held.is_empty() || !self.outbox.is_empty() || self.broker.holds_more();
        if self.upkeep.begins_renewal(holds, now) {
            let broker = self.broker.clone();
            self.calls
                .spawn(async move { Answer::Renewed(broker.extend().await) });
        }
        if self.closing.is_none() && self.upkeep.begins_maintenance(now) {
            let broker = self.broker.clone();
            self.calls
                .spawn(async move { Answer::Maintained(broker.maintain().await) });
        }
    }

    /// A refusal comes at once: a wait that stands for a while is none.
    fn note_waits_that_stand(&mut self, now: Mono) {
        let stands = |pool: &Pool| pool.stands_at(STANDS).is_some_and(|at| at <= now);
        if self.pools.values().any(stands) && self.backoff(Kind::Wait).worked() {
            let doing = Kind::Wait.doing();
            self.events.send(Event::Well { doing });
        }
    }

    /// Says of each pool that is known to have nothing left that this is so, once.
    fn tell_empty(&mut self) {
        if !self.outbox.is_empty() || self.broker.has_after_work() {
            return;
        }
        for (name, pool) in &mut self.pools {
            if pool.is_empty_news(self.outbox.settled()) {
                self.events.send(Event::Empty {
                    pool: name.clone(),
                    seen: pool.room.delivered(),
                    settled: self.outbox.settled(),
                });
            }
        }
    }

    fn claims(&self) -> usize {
        self.pools.values().filter(|pool| pool.claim.is_some()).count()
    }

    /// All is handed over, or the time for it is up.
    fn is_closed(&self, now: Mono) -> bool {
        let Some(closing) = &self.closing else {
            return false;
        };
        let is_settled = self.outbox.is_empty();
        let is_answered = self.claims() == 0 || now >= closing.answers_until;
        is_answered && (is_settled || now >= closing.until)
    }

    async fn finish(mut self) {
        // What claims took that are on their way is for the broker to find out.
        self.calls.shutdown().await;
        let unsettled = self.outbox.unsettled();
        if let Err(error) = self.broker.close().await {
            tracing::warn!(%error, "cannot close the broker");
        }
        if let Some(closing) = self.closing {
            let _ = closing.unsettled.send(unsettled);
        }
    }
}
