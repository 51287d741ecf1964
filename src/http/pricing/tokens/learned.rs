//! What services take, as far as their answers have told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most paths that are remembered.
const PATHS: usize = 256;
/// After so many streams without it, a service that refused `stream_options` is asked again.
const AGAIN: u32 = 64;

/// What is known of the services behind paths.
#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<HashMap<String, Takes>>);

/// Whether a service takes `stream_options`.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// It did once: whatever it refuses later, it is not that.
    Yes,
    /// It refused them, so many streams ago.
    No(u32),
}

/// The service behind a path.
#[derive(Clone, Debug)]
pub(super) struct Service {
    learned: Arc<Learned>,
    path: String,
}

impl Learned {
    pub(super) fn service(self: &Arc<Self>, path: &str) -> Service {
        Service { learned: Arc::clone(self), path: path.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Takes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, path: &str, takes: Takes) {
        let mut known = self.lock();
        if known.len() < PATHS || known.contains_key(path) {
            known.insert(path.to_owned(), takes);
        }
    }
}

impl Service {
    /// Whether to ask this time.
    pub(super) fn is_asked(&self) -> bool {
        match self.learned.lock().get_mut(&self.path) {
            Some(Takes::No(streams)) => {
                *streams += 1;
                *streams > AGAIN
            }
            Some(Takes::Yes) | None => true,
        }
    }

    /// It was asked, and answered with success.
    pub(super) fn took(&self) {
        self.learned.set(&self.path, Takes::Yes);
    }

    /// It was asked, and its answer says that it does not take that. Whether that is new, and believed.
    pub(super) fn refused(&self) -> bool {
        let known = self.learned.lock().get(&self.path).copied();
        if matches!(known, Some(Takes::Yes)) {
            return false;
        }
        self.learned.set(&self.path, Takes::No(0));
        known.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_took_it_once_is_always_asked() {
        let learned = Arc::<Learned>::default();
        let (one, two) = (learned.service("/one"), learned.service("/two"));
        assert!(one.is_asked() && two.is_asked());
        one.took();
        assert!(!one.refused() && one.is_asked());
        assert!(two.refused() && !two.refused());
        let asked = (0..200).filter(|_| two.is_asked()).count();
        assert!(asked > 0 && !learned.service("/two").refused(), "{asked}");
        two.took();
        assert!(two.is_asked() && learned.service("/three").is_asked());
    }
    #[test]
    fn a_pricing_that_takes_the_place_of_another_forgets_nothing() {
        use crate::http::pricing::{Refusals, TokenPricing};

        let refusals = Refusals::default();
        let before = TokenPricing::new().remembering(&refusals);
        assert!(before.learned.service("/v1/chat/completions").refused());
        let after = TokenPricing::new().remembering(&refusals);
        assert!(!after.learned.service("/v1/chat/completions").is_asked(), "it was refused before the reload");
        assert!(
            TokenPricing::new().learned.service("/v1/chat/completions").is_asked(),
            "another gateway knows nothing"
        );
    }
}
