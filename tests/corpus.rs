//! Everything that the fuzz targets were begun with, or found, does no harm.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own for the fuzz targets")]
mod decoders;

use std::path::Path;

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn the_corpus_of_every_fuzz_target_does_no_harm() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in decoders::TARGETS {
        let files = files(&fuzz.join("corpus").join(name));
        assert!(files.len() >= 10, "{name} has {} files", files.len());
        assert!(fuzz.join("fuzz_targets").join(name).with_extension("rs").exists(), "{name}");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let run = std::panic::catch_unwind(|| target(&bytes));
            assert!(run.is_ok(), "{}", file.display());
        }
    }
}

/// Ends torn off, lines twice, a byte turned: what crashes and bad disks leave.
#[test]
fn no_end_and_no_turned_byte_of_the_corpus_does_harm() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in decoders::TARGETS.into_iter().filter(|it| !it.0.ends_with("_reply")) {
        for file in files(&fuzz.join(name)) {
            let bytes = std::fs::read(&file).unwrap();
            let step = (bytes.len() / 4).max(1);
            for at in (0..bytes.len()).step_by(step) {
                let mut turned = bytes.clone();
                turned[at] ^= 0x15;
                for variant in [&bytes[..at], &turned, &bytes.repeat(2)[at..]] {
                    let run = std::panic::catch_unwind(|| target(variant));
                    assert!(run.is_ok(), "{} at {at}: {}", file.display(), variant.escape_ascii());
                }
            }
        }
    }
}
