//! Keys of a profile file.

use super::{Key, Kind, count, duration, key};

/// A profile file.
pub(crate) const PROFILE: &[Key] = &[
    key("about", Kind::Text, "", "What it is for."),
    key("reload", Kind::AnySignal, "", "The signal that reloads; without one nothing does."),
    key("stop", Kind::Signal, "\"SIGTERM\"", "The signal that lets requests finish."),
    key("term_cuts", Kind::Boolean, "false", "SIGTERM cuts requests: it waits for the drain."),
    key("load", Kind::Text, "", "Where its load can be read, in words."),
    key("leaves", Kind::Text, "", "What a reload does not read again, in words."),
    key("alone", Kind::Text, "", "What its signal does to a server of one process, in words."),
    key(
        "again",
        Kind::Boolean,
        "false",
        "It hears the signal of a reload while it is at one, and renews all once more.",
    ),
    key("limit", Kind::Table(LIMIT), "", "The server's own limit for finishing."),
    key("signals", Kind::List(&Kind::Table(MEANING)), "[]", "What each signal does."),
    key(
        "roles",
        Kind::List(&Kind::Table(ROLE)),
        "[]",
        "Who is who in its tree; the first that fits.",
    ),
];

const LIMIT: &[Key] = &[
    key("name", Kind::Text, "", "What the server calls it."),
    duration(
        "default",
        "\"3s\"",
        "What it is where nobody has set it; leave it out where that is no limit.",
    ),
    count("times", 1, "1", "How many times as long a stop may take."),
    duration("early", "\"0s\"", "How much before its limit it may end: a clock of whole seconds."),
];

const MEANING: &[Key] = &[
    key("signal", Kind::AnySignal, "", "SIGUSR1, USR1 or 10."),
    key("does", Kind::Text, "", "What it does there, in a few words."),
    key("harmless", Kind::Boolean, "false", "It takes no instance away: a reload, a log reopened."),
    key("cuts", Kind::Boolean, "false", "It cuts requests: asked about while some are in flight."),
    key("renews", Kind::List(&Kind::Text), "[]", "Roles that it renews, if not those of `reload`."),
];

const ROLE: &[Key] = &[
    key("role", Kind::Text, "", "master, manager, worker."),
    key("title", Kind::Pattern, "", "A regular expression for argv[0]."),
    count("level", 1, "", "1 is the first process, 2 its children, 3 theirs."),
    count("of", 1, "", "How many levels such a tree has, 1 to 3."),
    count("threads", 1, "", "It has at least so many threads."),
    count(
        "polls",
        1,
        "",
        "It has at least so many descriptors of epoll(7), where they can be seen.",
    ),
    key("cuts", Kind::List(&Kind::Signal), "[]", "Signals at which it may close every connection."),
    key("renewed", Kind::Boolean, "false", "A reload puts another process in its place."),
    key("leaving", Kind::Boolean, "false", "It finishes what it has, and takes nothing new."),
    key(
        "on_demand",
        Kind::Boolean,
        "false",
        "One comes when there is work, and none may be there.",
    ),
    key("stop", Kind::Signal, "\"SIGTERM\"", "The signal that lets one of them finish."),
];
