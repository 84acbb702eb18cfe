//! Looks the names of hosts up, which blocks a thread of this process for as long as the resolver of the host
//! takes: few at a time, and each name once, however many wait for it or have given up.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use crate::probe::io_words;

/// Look-ups at a time.
const FEW: usize = 4;

type Found = Result<Vec<SocketAddr>, String>;

/// Those of this process.
static NAMES: Names = Names { few: Semaphore::const_new(FEW), out: Mutex::new(BTreeMap::new()) };

/// Where `host:port` is.
pub(super) async fn addresses(place: &str) -> Found {
    if let Ok(address) = place.parse() {
        return Ok(vec![address]);
    }
    NAMES
        .find(place, |place| async move { Ok(tokio::net::lookup_host(place).await?.collect()) })
        .await
}

struct Names {
    few: Semaphore,
    /// Look-ups under way, by what is looked up.
    out: Mutex<BTreeMap<String, watch::Receiver<Option<Found>>>>,
}

impl Names {
    /// Waits for a look-up that is under way, or for a new one. It goes on when nobody waits any more.
    async fn find<F, T>(&'static self, place: &str, look_up: F) -> Found
    where
        F: FnOnce(String) -> T + Send + 'static,
        T: Future<Output = io::Result<Vec<SocketAddr>>> + Send,
    {
        let mut asked = self.begin(place, look_up);
        let found = asked.wait_for(Option::is_some).await;
        found
            .ok()
            .and_then(|it| it.clone())
            .unwrap_or_else(|| Err("nobody looked its name up".into()))
    }

    fn begin<F, T>(&'static self, place: &str, look_up: F) -> watch::Receiver<Option<Found>>
    where
        F: FnOnce(String) -> T + Send + 'static,
        T: Future<Output = io::Result<Vec<SocketAddr>>> + Send,
    {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = out.get(place) {
            return asked.clone();
        }
        let (found, asked) = watch::channel(None);
        out.insert(place.to_owned(), asked.clone());
        let over = Over { names: self, place: place.to_owned() };
        tokio::spawn(async move {
            // It is never closed.
            let _one_of_few = self.few.acquire().await;
            let all = look_up(over.place.clone()).await;
            drop(over);
            // Nobody may wait for it any more.
            let _ = found.send(Some(all.map_err(|err| io_words(&err))));
        });
        asked
    }
}

/// A look-up that ends, however it ends.
struct Over {
    names: &'static Names,
    place: String,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.names.out.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Resolves nothing until it is told to.
    struct Resolver {
        names: &'static Names,
        begun: Arc<AtomicUsize>,
        answers: Arc<Semaphore>,
    }

    impl Resolver {
        fn new() -> Self {
            let names = Names { few: Semaphore::new(FEW), out: Mutex::default() };
            Self {
                names: Box::leak(Box::new(names)),
                begun: Arc::default(),
                answers: Arc::new(Semaphore::new(0)),
            }
        }

        async fn ask(&self, place: &str) -> Option<Found> {
            let (begun, answers) = (self.begun.clone(), self.answers.clone());
            let found = self.names.find(place, move |_| async move {
                begun.fetch_add(1, Ordering::SeqCst);
                answers.acquire().await.map_err(io::Error::other)?.forget();
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))])
            });
            tokio::time::timeout(Duration::from_millis(10), found).await.ok()
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_once_however_often_it_is_asked_for() {
        let resolver = Resolver::new();
        for _ in 0..20 {
            assert_eq!(resolver.ask("web.example:80").await, None);
        }
        assert_eq!(resolver.begun(), 1);
        resolver.answers.add_permits(2);
        let found = resolver.ask("web.example:80").await.unwrap();
        assert_eq!(found, Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))]));
        assert!(resolver.ask("web.example:80").await.is_some(), "anew: it may be elsewhere");
        assert_eq!(resolver.begun(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn only_some_names_are_looked_up_at_a_time() {
        let resolver = Resolver::new();
        for n in 0..10 {
            assert_eq!(resolver.ask(&format!("web{n}.example:80")).await, None);
        }
        assert_eq!(resolver.begun(), FEW);
        resolver.answers.add_permits(10);
        assert!(resolver.ask("web9.example:80").await.is_some());
        assert_eq!(resolver.begun(), 10);
    }

    #[tokio::test]
    async fn an_address_is_no_name() {
        let found = addresses("[::1]:9502").await.unwrap();
        assert_eq!(found, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9502))]);
        assert!(addresses("localhost:80").await.unwrap().iter().all(|it| it.port() == 80));
    }
}
