//! `halometer demo --serve`: the parties, for a wallet of one's own to be tried with.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;

use super::error::DemoError;
use super::kept::Kept;
use crate::args::DemoArgs;
use halometer::protocol::Credits;
use halometer::testing::stack::{Stack, StackOptions};

/// What the payment is worth: 8 lanes of 64,000 micro-credits.
const PAID: Credits = Credits::from_micro(512_000);

/// Runs the parties until they are interrupted.
pub(super) fn run(args: &DemoArgs) -> Result<ExitCode, Box<dyn Error>> {
    let kept = args.keep.as_deref().map(Kept::create).transpose().map_err(DemoError::from)?;
    let records = kept.as_ref().map(Kept::records);
    let options = StackOptions { records, listen: args.listen, ..StackOptions::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stack = Stack::start(options).await?;
        if let Some(kept) = &kept {
            kept.directory(stack.issuer().signed_directory()).map_err(DemoError::from)?;
        }
        introduce(&stack, args.json)?;
        let stopped = tokio::signal::ctrl_c().await;
        let hint = kept.map(|kept| kept.conclude(&stack)).transpose().map_err(DemoError::from)?;
        stack.shutdown().await;
        if let (Some(hint), false) = (hint, args.json) {
            writeln!(io::stdout(), "\n{hint}")?;
        }
        Ok(stopped.map(|()| ExitCode::SUCCESS)?)
    })
}

/// What a wallet needs to know, so that it can be pasted into a shell.
fn introduce(stack: &Stack, as_json: bool) -> Result<(), Box<dyn Error>> {
    let payment = stack.pay(PAID)?.to_string();
    let root = hex::encode(stack.root_key().to_bytes());
    let (issuer, gateway) = (stack.issuer_url(), stack.gateway_url());
    let id = stack.gateway().id().to_string();
    let mut out = io::stdout().lock();
    if as_json {
        let value = json!({
            "issuer": issuer,
            "root_key": root,
            "gateway": id,
            "gateway_url": gateway,
            "payment": payment,
            "amount": PAID.to_string(),
        });
        writeln!(out, "{value}")?;
    } else {
        writeln!(out, "# A chat service at {gateway}, gateway {id}, paid with credit of this issuer:")?;
        writeln!(out, "ISSUER={issuer}")?;
        writeln!(out, "ROOT_KEY={root}")?;
        writeln!(out, "# Somebody has paid {PAID} micro-credits:")?;
        writeln!(out, "PAYMENT={payment}")?;
        writeln!(out, "AMOUNT={PAID}")?;
        writeln!(out, "# Ctrl-C ends it all.")?;
    }
    Ok(out.flush()?)
}
