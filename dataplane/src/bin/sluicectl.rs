//! The operator's tool; see [`sluiced::ctl`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sluiced::ctl::main()
}
