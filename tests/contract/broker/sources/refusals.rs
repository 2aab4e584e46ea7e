//! What a broker refuses, or lacks, is a typed error.

use pool::broker::source::Event;
use pool::broker::{Broker, BrokerError, NewGroup, NotHere};
use pool::job::{GroupId, NewJob};

use super::fed::{Fed, add};
use super::store::Store;
use crate::broker::kit::{id, job, jobs};

/// Nobody has to read a text to know what it is.
pub async fn refusals_are_typed(store: &dyn Store) {
    let broker = store.handle().await;
    for lack in lacks(&*broker) {
        assert_eq!(lack.broker, broker.url());
        for told in [lack.ability, lack.instead] {
            assert!(!told.is_empty() && lack.to_string().contains(told), "{lack}");
        }
        assert!(matches!(BrokerError::from(lack), BrokerError::NotHere(_)));
    }
    let producer = broker.producer().unwrap();
    let large = NewJob::new(job("large", "default").queue, "work", "x".repeat(2000));
    let error = producer.enqueue(vec![large]).await.unwrap_err();
    assert!(matches!(error, BrokerError::Refused(_)), "{error:?}");
    // Who can't find a job by its id can't know that another one has it.
    if let Ok(reader) = broker.reader() {
        add(&broker, 0..2, "default").await;
        for taken in [
            jobs(1..3, "default"),
            vec![job("same", "other"), job("same", "other")],
        ] {
            let error = producer.enqueue(taken).await.unwrap_err();
            let of_both = ["00001", "same"].map(id);
            assert!(
                matches!(&error, BrokerError::IdTaken(id) if of_both.contains(id)),
                "{error:?}"
            );
        }
        assert_eq!(
            reader.find(&[id("00002"), id("same")]).await.unwrap(),
            [None, None],
            "all or none"
        );
    }
    if let Ok(groups) = broker.groups() {
        let group = |member| NewGroup {
            id: GroupId::new("g").unwrap(),
            ..NewGroup::new(vec![job(member, "default")])
        };
        groups.enqueue(group("one")).await.unwrap();
        let error = groups.enqueue(group("another")).await.unwrap_err();
        assert!(
            matches!(&error, BrokerError::GroupTaken(id) if id.as_str() == "g"),
            "{error:?}"
        );
    }
    broker.close().await.unwrap();
    let error = producer.enqueue(jobs(5..6, "default")).await.unwrap_err();
    assert!(matches!(error, BrokerError::Refused(_)), "{error:?}");
}

/// A server that is not there is told by its type too, to a producer and by a source.
pub async fn a_server_that_is_away_is_unreachable(store: &dyn Store) {
    let (producer, handle) = (store.handle().await, store.handle().await);
    let mut fed = Fed::over(handle).await;
    fed.want(&["default"], 1);
    fed.empty().await;
    store.remote().go_away();
    let enqueued = producer.producer().unwrap().enqueue(jobs(0..1, "default")).await;
    assert!(
        matches!(enqueued, Err(BrokerError::Unreachable { .. })),
        "{enqueued:?}"
    );
    let trouble = |event| match event {
        Event::Trouble { error, .. } => Some(error),
        _ => None,
    };
    let error = fed.first(trouble).await;
    assert!(matches!(*error, BrokerError::Unreachable { .. }), "{error:?}");
    store.remote().come_back();
    while !matches!(fed.next().await, Event::Well { .. }) {}
}

fn lacks(broker: &dyn Broker) -> Vec<NotHere> {
    let asked = [
        broker.producer().err(),
        broker.reader().err(),
        broker.dead_letters().err(),
        broker.control().err(),
        broker.groups().err(),
        broker.chains().err(),
    ];
    asked.into_iter().flatten().collect()
}
