//! What becomes of a request that an instance did not answer.
//!
//! The one rule: a request is sent again only if the instance cannot have acted on it, or if acting twice is the
//! same as acting once (RFC 9110 §9.2.2).

use http::{Method, StatusCode};

/// What went wrong before the first byte of the answer. (An instance that takes no connection was not asked.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection broke before any byte of this request was taken by the kernel.
    Unsent,
    /// The connection broke after that.
    Broken,
    /// What came back is no HTTP.
    Garbled,
    /// No answer within the time.
    Late,
}

/// What is known of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) idempotent: bool,
    /// The body is still there from its first byte on.
    pub(super) replayable: bool,
    /// How often it was sent again although an instance may have seen it.
    pub(super) repeats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To another instance, or to the same if there is no other.
    Again,
    /// The client gets this status.
    Fail(StatusCode),
}

/// A request that kills whoever takes it must not kill them all.
const REPEATS: u32 = 2;

pub(super) fn verdict(failure: Failure, sending: Sending) -> Verdict {
    let again = match failure {
        Failure::Unsent => sending.replayable,
        Failure::Broken => sending.replayable && sending.idempotent && sending.repeats < REPEATS,
        Failure::Garbled => false,
        Failure::Late => return Verdict::Fail(StatusCode::GATEWAY_TIMEOUT),
    };
    if again { Verdict::Again } else { Verdict::Fail(StatusCode::BAD_GATEWAY) }
}

/// RFC 9110 §9.2.2.
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRESH: Sending = Sending { idempotent: false, replayable: true, repeats: 0 };
    const BAD: Verdict = Verdict::Fail(StatusCode::BAD_GATEWAY);

    #[test]
    fn what_never_left_is_sent_again_whatever_it_is() {
        assert_eq!(verdict(Failure::Unsent, FRESH), Verdict::Again);
    }

    #[test]
    fn a_post_that_may_have_been_seen_is_not_repeated_and_a_get_is() {
        assert_eq!(verdict(Failure::Broken, FRESH), BAD);
        assert_eq!(verdict(Failure::Broken, Sending { idempotent: true, ..FRESH }), Verdict::Again);
    }

    #[test]
    fn a_body_that_is_gone_cannot_be_sent_again() {
        let gone = Sending { replayable: false, idempotent: true, repeats: 0 };
        assert_eq!(verdict(Failure::Unsent, gone), BAD);
        assert_eq!(verdict(Failure::Broken, gone), BAD);
    }

    #[test]
    fn a_request_is_repeated_twice_at_most() {
        let often = |repeats| Sending { idempotent: true, replayable: true, repeats };
        assert_eq!(verdict(Failure::Broken, often(1)), Verdict::Again);
        assert_eq!(verdict(Failure::Broken, often(2)), BAD);
    }

    #[test]
    fn a_late_answer_is_504_and_nonsense_502() {
        assert_eq!(verdict(Failure::Late, FRESH), Verdict::Fail(StatusCode::GATEWAY_TIMEOUT));
        assert_eq!(verdict(Failure::Garbled, FRESH), BAD);
    }

    #[test]
    fn post_and_patch_are_not_idempotent() {
        let these = [Method::GET, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS];
        assert!(these.iter().all(is_idempotent));
        assert!(![Method::POST, Method::PATCH, Method::CONNECT].iter().any(is_idempotent));
        assert!(!is_idempotent(&Method::from_bytes(b"LOCK").unwrap()));
    }

    proptest! {
        #[test]
        fn nothing_that_may_have_been_done_is_done_twice(
            which in 0usize..4, replayable: bool, repeats in 0u32..4,
        ) {
            use Failure::{Broken, Garbled, Late, Unsent};
            let failure = [Unsent, Broken, Garbled, Late][which];
            let sending = Sending { idempotent: false, replayable, repeats };
            if verdict(failure, sending) == Verdict::Again {
                prop_assert_eq!(failure, Unsent);
            }
        }
    }
}
