// SPDX-License-Identifier: Apache-2.0
//! Main thread: starts everything, then takes signals. All that reads files and waits is here.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sluice_firewall::PolicySet;
use sluice_pod::{Signals, output};

use crate::args::Args;
use crate::config::{Config, Problem, Problems, Source, load_tables};
use crate::legs::{Leg, LegSource};
use crate::log::{self, Log};
use crate::neighbours::NeighbourLimits;
use crate::report;
use crate::tables::Tables;
use crate::worker::{Command, Plan, Snapshot, Worker};

/// Longest time that the forwarding thread may take for an answer: it looks between bursts.
const ANSWER: Duration = Duration::from_secs(5);
/// Time after which the forwarding thread is looked after.
const LOOK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Runs the firewall until a signal ends it.
///
/// # Errors
/// The configuration or the policies are wrong at the start, or the operating system refuses something.
pub fn run(args: &Args) -> Result<()> {
    let signals = Signals::catch_also(&[Signal::SIGHUP, Signal::SIGUSR1])?;
    // A peer truncates its memory, or the node runs out of it: an error, not our end.
    sluice_mem::sigbus::install()?;
    let source = args.source();
    let config = source.read()?;
    let (tables, warnings) = load_tables(&config, 1, None)?;
    warn(&warnings);
    if args.check {
        output!("good: {}", summary(&config, &tables));
        return Ok(());
    }
    let (log, events) = Log::new(config.log_rate);
    let log_thread = log::start(events, log_target(&config)?)?;
    let legs = open(&config, None)?;
    let control = Control::start(args, source, config, tables, legs, log)?;
    let ended = control.serve(&signals);
    // The thread ends with the last sender of events, which the forwarding thread has.
    let _ = log_thread.join();
    let snapshot = ended?;
    print(&snapshot, args.json);
    Ok(())
}

/// State of the main thread.
struct Control<'a> {
    args: &'a Args,
    source: Source,
    /// Configuration in force.
    config: Config,
    version: u64,
    commands: SyncSender<Command>,
    wake: OwnedFd,
    worker: JoinHandle<()>,
}

impl<'a> Control<'a> {
    fn start(
        args: &'a Args,
        source: Source,
        config: Config,
        tables: Tables,
        legs: Vec<LegSource>,
        log: Log,
    ) -> Result<Control<'a>> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (commands, taken) = sync_channel(1);
        let plan = plan(&config, tables, legs);
        let worker = start_worker(plan, log, taken, wake.try_clone()?, args)?;
        Ok(Control {
            args,
            source,
            config,
            version: 1,
            commands,
            wake,
            worker,
        })
    }

    /// Takes signals until one ends it; returns what was counted.
    fn serve(mut self, signals: &Signals) -> Result<Snapshot> {
        loop {
            let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
            let _ = poll(&mut fds, Some(&LOOK));
            while let Some(signal) = signals.next() {
                match signal {
                    Signal::SIGHUP => self.reload(),
                    Signal::SIGUSR1 => {
                        print(&self.ask(Command::Report)?, self.args.json);
                    }
                    _ => {
                        let snapshot = self.ask(Command::Stop)?;
                        let _ = self.worker.join();
                        return Ok(snapshot);
                    }
                }
            }
            if self.worker.is_finished() {
                bail!("internal error: the forwarding thread ended by itself; please report this");
            }
        }
    }

    fn send(&self, command: Command) -> Result<()> {
        let gone = "the forwarding thread is gone";
        self.commands.send(command).ok().context(gone)?;
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn ask(&self, command: impl FnOnce(SyncSender<Snapshot>) -> Command) -> Result<Snapshot> {
        let (to, from) = sync_channel(1);
        self.send(command(to))?;
        let late = "the forwarding thread does not answer";
        from.recv_timeout(ANSWER).context(late)
    }

    /// Reads everything again. What is wrong is told, and then nothing changes.
    fn reload(&mut self) {
        match self.try_reload() {
            Ok(told) => eprintln!("reloaded: {told}"),
            Err(error) => {
                eprintln!("{error:#}\nnot reloaded: what was in force before stays");
            }
        }
    }

    fn try_reload(&mut self) -> Result<String> {
        let config = self.source.read()?;
        let current = self.ask(Command::Report)?.tables;
        let previous: Option<&PolicySet> = Some(&current.policies);
        let (tables, warnings) = load_tables(&config, self.version + 1, previous)?;
        if config.log_file != self.config.log_file {
            bail!("the log's file changes with a restart only");
        }
        let legs = open(&config, Some(&self.config))?;
        let told = summary(&config, &tables);
        let plan = plan(&config, tables, legs);
        self.send(Command::Reload(Box::new(plan)))?;
        // Once this is answered, the new configuration is in force.
        self.ask(Command::Report)?;
        warn(&warnings);
        self.version += 1;
        self.config = config;
        Ok(told)
    }
}

fn start_worker(
    plan: Plan,
    log: Log,
    commands: Receiver<Command>,
    wake: OwnedFd,
    args: &Args,
) -> Result<JoinHandle<()>> {
    let worker = Worker::new(plan, log, commands, wake, args.wait);
    let thread = std::thread::Builder::new().name("forward".to_owned());
    Ok(thread.spawn(move || worker.run())?)
}

fn plan(config: &Config, tables: Tables, legs: Vec<LegSource>) -> Plan {
    Plan {
        tables,
        legs,
        neighbours: NeighbourLimits {
            known: config.neighbours,
            ..NeighbourLimits::default()
        },
        log_rate: config.log_rate,
    }
}

/// Opens the legs that a configuration has and the one before had not.
fn open(config: &Config, before: Option<&Config>) -> Result<Vec<LegSource>> {
    let legs = config.legs.iter().map(|leg| {
        let kept = before.and_then(|before| {
            let mut legs = before.legs.iter();
            legs.position(|old| old.is_same_link(leg))
        });
        Ok(match kept {
            Some(at) => LegSource::Kept {
                at,
                config: leg.clone(),
            },
            None => LegSource::Opened(Leg::open(leg)?),
        })
    });
    legs.collect()
}

fn log_target(config: &Config) -> Result<Box<dyn Write + Send>> {
    let Some(path) = &config.log_file else {
        return Ok(Box::new(std::io::stdout()));
    };
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("log.file: open {}", path.display()))?;
    Ok(Box::new(file))
}

fn warn(warnings: &[Problem]) {
    if !warnings.is_empty() {
        eprintln!("{}", Problems(warnings.to_vec()));
    }
}

fn summary(config: &Config, tables: &Tables) -> String {
    format!(
        "{} legs, {} interfaces, {} routes, {} policies",
        config.legs.len(),
        config.interfaces.len(),
        tables.routes.len(),
        tables.policies.iter().count()
    )
}

fn print(snapshot: &Snapshot, json: bool) {
    let text = if json {
        format!("{}\n", report::json(snapshot))
    } else {
        report::text(snapshot)
    };
    // In one piece: the log's lines go to the same place.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
