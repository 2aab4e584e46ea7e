//! What rules see of a source: a supervisor without workers.

use std::sync::Arc;

use pool::broker::Broker;
use pool::broker::source::{Demand, Event, Events, Late, Source, StopHow};
use pool::job::{Begun, Delivery, PoolName, QueueOrder, Settlement, Token, Verdict, Work};
use pool::time::Unix;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::broker::kit::{finish, jobs, queue, soon};

/// A source, and what a supervisor would keep of it.
pub struct Fed {
    pub source: Box<dyn Source>,
    pub events: UnboundedReceiver<Event>,
    pub seen: u64,
    pub settled: u64,
    /// Of these it has heard.
    heard: u64,
    late: Vec<(Token, Late)>,
    /// What came and was not asked for yet.
    jobs: Vec<Delivery>,
    /// Room for jobs that did not come yet.
    pub credit: u32,
    demand: Demand,
}

pub fn demand(pool: &str, queues: &[&str], credit: u32) -> Demand {
    let queues: Vec<_> = queues.iter().map(|name| queue(name)).collect();
    Demand {
        pool: PoolName::new(pool).unwrap(),
        queues: queues.into(),
        order: QueueOrder::Strict,
        credit,
        jobs: credit,
        runs: true,
        seen: 0,
        wake: false,
        tell_empty: true,
    }
}

impl Fed {
    pub async fn over(broker: Arc<dyn Broker>) -> Self {
        let (sender, events) = unbounded_channel();
        let take = move |event| drop(sender.send(event));
        let source = broker.supply(Events::new(take)).await.unwrap();
        Fed {
            source,
            events,
            seen: 0,
            settled: 0,
            heard: 0,
            late: Vec::new(),
            jobs: Vec::new(),
            credit: 0,
            demand: demand("default", &[], 0),
        }
    }

    /// Room for so many jobs of these queues.
    pub fn want(&mut self, queues: &[&str], credit: u32) {
        self.credit = credit;
        self.demand = Demand {
            seen: self.seen,
            ..demand("default", queues, credit)
        };
        self.source.demand(self.demand.clone());
    }

    /// The same, with a choice among the queues.
    pub fn want_in(&mut self, order: QueueOrder, queues: &[&str], credit: u32) {
        self.credit = credit;
        self.demand = Demand {
            seen: self.seen,
            order,
            ..demand("default", queues, credit)
        };
        self.source.demand(self.demand.clone());
    }

    /// It runs no more jobs for now.
    pub fn pause(&mut self) {
        (self.credit, self.demand.credit, self.demand.jobs) = (0, 0, 0);
        (self.demand.runs, self.demand.seen) = (false, self.seen);
        self.source.demand(self.demand.clone());
    }

    pub fn settle(&mut self, jobs: &[Delivery], verdict: &Verdict) {
        let settlement = |job: &Delivery| Settlement {
            of: job.token,
            verdict: verdict.clone(),
            run: None,
        };
        self.source.settle(jobs.iter().map(settlement).collect());
        self.settled += jobs.len() as u64;
    }

    pub fn began(&mut self, job: &Delivery) {
        assert!(job.tells_begin);
        self.source.began(vec![Begun {
            token: job.token,
            worker: 1,
            ordinal: 1,
            at: Unix::now(),
        }]);
    }

    /// Waits until a job is to be stopped.
    pub async fn stopped(&mut self) -> (Token, StopHow) {
        let stop = |event| match event {
            Event::Stop { token, how } => Some((token, how)),
            _ => None,
        };
        self.first(stop).await
    }

    /// Waits until outcomes are settled: how many, and which came too late.
    pub async fn settlement(&mut self) -> (usize, Vec<(Token, Late)>) {
        let settled = |event| match event {
            Event::Settled { count, late } => Some((count, late)),
            _ => None,
        };
        self.first(settled).await
    }

    /// Waits until all outcomes are settled. Which of all came too late?
    pub async fn all_settled(&mut self) -> Vec<(Token, Late)> {
        while self.heard < self.settled {
            if let Event::Delivered { jobs, .. } = self.next().await {
                self.jobs.extend(jobs);
            }
        }
        assert_eq!(self.heard, self.settled, "each once");
        std::mem::take(&mut self.late)
    }

    /// Waits for the first event of which `take` makes something.
    pub async fn first<T>(&mut self, take: impl Fn(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = take(self.next().await) {
                return found;
            }
        }
    }

    /// The next event. After-work is done at once, and room said anew; it is no event for a rule.
    pub async fn next(&mut self) -> Event {
        loop {
            let event = soon(self.events.recv()).await.unwrap();
            if let Event::Settled { count, late } = &event {
                self.heard += *count as u64;
                self.late.extend(late);
            }
            let Event::Delivered { pool, jobs } = event else {
                return event;
            };
            self.seen += jobs.len() as u64;
            let (after, jobs): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| job.job.work == Work::After);
            self.credit = self.credit.saturating_sub(u32::try_from(jobs.len()).unwrap());
            if !after.is_empty() {
                self.settle(&after, &finish());
                self.demand.credit = self.credit;
                self.demand.jobs = self.credit;
                self.demand.seen = self.seen;
                self.source.demand(self.demand.clone());
            }
            if !jobs.is_empty() {
                return Event::Delivered { pool, jobs };
            }
        }
    }

    /// Waits until so many jobs have come, and takes them.
    pub async fn jobs(&mut self, count: usize) -> Vec<Delivery> {
        while self.jobs.len() < count {
            if let Event::Delivered { jobs, .. } = self.next().await {
                self.jobs.extend(jobs);
            }
        }
        std::mem::take(&mut self.jobs)
    }

    pub async fn ids(&mut self, count: usize) -> Vec<String> {
        ids_of(&self.jobs(count).await)
    }

    /// Waits until the source is known to have nothing left; no job may come before.
    pub async fn empty(&mut self) {
        loop {
            match self.next().await {
                Event::Empty { seen, settled, .. } if (seen, settled) == (self.seen, self.settled) => return,
                Event::Delivered { jobs, .. } => panic!("nothing should come: {jobs:?}"),
                _ => {}
            }
        }
    }
}

pub fn ids_of(jobs: &[Delivery]) -> Vec<String> {
    jobs.iter().map(|delivery| delivery.job.id.to_string()).collect()
}

pub async fn add(broker: &Arc<dyn Broker>, of: std::ops::Range<u32>, queue: &str) {
    broker.producer().unwrap().enqueue(jobs(of, queue)).await.unwrap();
}
