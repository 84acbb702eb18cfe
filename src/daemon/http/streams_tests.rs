//! What a client is told of the journal.

use super::*;
use crate::daemon::turn::Turn;

fn event(seq: u64) -> Event {
    let instance = if seq.is_multiple_of(2) { "web1" } else { "web2" };
    let at = "1970-01-01T00:00:00Z";
    let event = serde_json::json!({
        "seq": seq, "at": at, "kind": "exited", "instance": instance, "message": "exited"
    });
    serde_json::from_value(event).unwrap()
}

fn wanted(service: &str, follow: bool) -> Wanted {
    let query = EventQuery { service: Some(service.into()), follow, ..EventQuery::default() };
    Wanted { span: Span::default(), filter: query.filter(), query }
}

/// Events 1 to 20 happened, the last 5 are kept in memory, and so many fit between the daemon and a client.
#[tokio::test]
async fn who_lags_gets_what_was_missed_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let (turns, mut asked) = mpsc::channel(1);
    let (sender, news) = broadcast::channel(4);
    let api = Api { turns, config: None };
    let mut teller = Teller { api, wanted: wanted("web1", true), past: None, news, last: 2 };
    let lines: Vec<u8> = (1..=20).flat_map(|it| line_of(&event(it))).collect();
    std::fs::write(&path, lines).unwrap();
    for seq in 3..=20 {
        sender.send(Arc::new(event(seq))).unwrap();
    }
    let daemon = async {
        let Some(Turn::Ask(Question::Journal { reply })) = asked.recv().await else { return };
        let recent = (16..=21).map(event).collect();
        let _ = reply.send((vec![path], recent, sender.subscribe()));
        sender.send(Arc::new(event(21))).unwrap();
        sender.send(Arc::new(event(22))).unwrap();
    };
    let seen = async {
        let mut seen = vec![];
        while seen.last() != Some(&22) {
            seen.extend(teller.next().await.unwrap().iter().map(|it| it.seq));
        }
        seen
    };
    let ((), seen) = tokio::join!(daemon, seen);
    assert_eq!(seen, [4, 6, 8, 10, 12, 14, 16, 18, 20, 22]);
}

#[tokio::test]
async fn all_events_are_told_a_piece_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let lines: Vec<u8> = (1..=1000).flat_map(|it| line_of(&event(it))).collect();
    std::fs::write(&path, lines).unwrap();
    let files = vec![path];
    // One event more than the disk has taken.
    let recent: Vec<_> = (999..=1001).map(event).collect();
    let mut past = Past::on_disk(&files, recent.clone());
    let mut seen = vec![];
    while let Some(events) = past.next(&wanted("web2", false)).await {
        assert!(events.len() <= 256);
        seen.extend(events.iter().map(|it| it.seq));
    }
    assert_eq!(seen, (1..=1001).step_by(2).collect::<Vec<u64>>());

    let mut last = wanted("web2", false);
    last.query.lines = Some(2);
    let told = last_on_disk(files, recent, 2, last).await;
    assert_eq!(told.iter().map(|it| it.seq).collect::<Vec<_>>(), [999, 1001]);
}
