//! Apps that this binary serves as a template, by the name in [`crate::harness::APP`].

use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use pool::{App, Context, TaskError, TaskResult};
use serde::Deserialize;

use crate::{example, harness};

pub fn template() -> ExitCode {
    match std::env::var(harness::APP).as_deref() {
        Ok("example") => example::app().main(),
        Ok("builtin") => App::builtin().main(),
        Ok("failing") => App::new()
            .state(|| -> TaskResult<u32> { Ok("not a number".parse()?) })
            .main(),
        Ok("panicking") => App::new()
            .state(|| -> TaskResult<()> { panic!("no model in the drawer") })
            .main(),
        Ok("threads") => App::new().state(leave_a_thread).main(),
        Ok("socket") => App::new().state(leave_a_socket).main(),
        Ok("hook") => App::new()
            .after_fork(|()| Err(TaskError::failed("no database")))
            .main(),
        _ => tasks().main(),
    }
}

fn leave_a_thread() -> TaskResult<()> {
    let (started, running) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("prefetcher".into());
    thread.spawn(move || {
        let _ = started.send(()); // it has its name by now
        std::thread::sleep(Duration::from_secs(1000));
    })?;
    running.recv()?;
    Ok(())
}

fn leave_a_socket() -> TaskResult<(TcpListener, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connection = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener, connection))
}

/// What the app loads: a large table, and the process that loaded it.
struct State {
    table: Vec<u8>,
    loaded_by: u32,
}

#[derive(Deserialize)]
struct Square {
    number: i64,
}

/// Tasks that end in each way that a task can.
fn tasks() -> App<State> {
    App::new()
        .state(|| {
            print!("half a line"); // must be printed once, by the template
            let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| 7)).collect();
            let joined: u8 = threads.into_iter().filter_map(|thread| thread.join().ok()).sum();
            Ok(State {
                table: vec![joined; 32 << 20],
                loaded_by: std::process::id(),
            })
        })
        .after_fork(|state| {
            println!("worker with {} bytes", state.table.len());
            Ok(())
        })
        .task("square", |args: Square, _: &Context<_>| {
            Ok(args.number * args.number)
        })
        .task(
            "echo",
            |args: Box<serde_json::value::RawValue>, _: &Context<_>| Ok(args),
        )
        .task("loaded_by", |(): (), ctx: &Context<State>| {
            Ok(ctx.state().loaded_by)
        })
        .task("about", |(): (), ctx: &Context<_>| {
            Ok((ctx.job_id().to_owned(), ctx.queue().to_owned(), ctx.attempt()))
        })
        .task("fail", |(): (), _: &Context<_>| -> TaskResult<()> {
            Err(std::io::Error::other("disk on fire"))?;
            Ok(())
        })
        .task("retry", |(): (), _: &Context<_>| -> TaskResult<()> {
            Err(TaskError::retry_after(Duration::from_millis(1500), "not yet"))
        })
        .task("panic", |(): (), _: &Context<_>| -> TaskResult<()> {
            panic!("out of luck")
        })
        .task("abort", |(): (), _: &Context<_>| -> TaskResult<()> {
            std::process::abort()
        })
        .task("large", |len: usize, _: &Context<_>| Ok("x".repeat(len)))
        .task("print", |text: String, _: &Context<_>| {
            println!("{text}");
            eprintln!("loudly: {text}");
            Ok(())
        })
        .task("steps", |(): (), ctx: &Context<_>| {
            ctx.progress(None, "counting");
            ctx.progress(0.5, "ä".repeat(300));
            ctx.progress(7.0, "");
            Ok(())
        })
        .task("spin", |(): (), ctx: &Context<_>| -> TaskResult<()> {
            loop {
                ctx.check()?;
            }
        })
        .task("gate", |path: String, _: &Context<_>| {
            Ok(std::fs::read_to_string(path)?)
        })
        .task("spawn", |(): (), _: &Context<_>| {
            let mut command = Command::new("sleep");
            command.arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
            #[allow(clippy::zombie_processes)] // it must outlive the job
            let child = command.spawn()?;
            Ok(child.id())
        })
}
