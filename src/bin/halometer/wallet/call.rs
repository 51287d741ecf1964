//! A paid request.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde_json::json;

use super::online::{Online, block_on, look_for, news, policy, smallest_class};
use super::say::{self, amount};
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::http::payer::{CallError, CreditState, Paid};
use halometer::http::payment::RECEIPT_HEADER;
use halometer::protocol::{Credits, GatewayId, Problem};
use halometer::wallet::ReceiptVerdict;

/// Longest body that is sent, bytes.
const LONGEST_BODY: u64 = 64 << 20;
/// How long a command that is done waits for what an earlier one left in flight.
const MOMENT: Duration = Duration::from_secs(3);

/// The arguments of `halometer wallet call`.
#[derive(Clone, Debug, clap::Args)]
pub struct CallArgs {
    /// Path and query, as in `/v1/chat/completions`, or a whole URL at one of the gateway's origins.
    #[arg(value_name = "TARGET")]
    pub target: String,

    /// The method; without it GET, or POST if there is data.
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    pub method: Option<String>,

    /// A header, `Name: value`; may be repeated. What names you to the service names you to the gateway.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,

    /// The body: text, @FILE, or - for standard input. Its type is application/json unless a header says otherwise.
    #[arg(short = 'd', long = "data", value_name = "DATA", allow_hyphen_values = true)]
    pub data: Option<String>,

    /// Print the answer's status and headers before its body.
    #[arg(short = 'i', long)]
    pub include: bool,

    /// The gateway's id, where the issuer has several and the target is no URL.
    #[arg(long, value_name = "ID")]
    pub gateway: Option<GatewayId>,

    /// The charge class: what the call may cost at most, micro-credits; what it does not cost comes back. Without it the smallest.
    /// It is visible: use one class for all calls.
    #[arg(long, value_name = "N")]
    pub class: Option<u64>,
}

pub(super) fn run(place: &Place, args: &CallArgs) -> Outcome {
    let request = Request::of(args)?;
    let mut wallet = place.open()?;
    let gateway = look_for(&mut wallet, args.gateway, request.origin.as_deref())?;
    let directory = wallet.directory();
    let class = match args.class {
        Some(class) => Credits::from_micro(class),
        None => smallest_class(directory)?,
    };
    if !directory.has_class(class) {
        let classes: Vec<_> = directory.classes().iter().map(ToString::to_string).collect();
        return Err(Trouble::yours(format!("{class} is no charge class of the directory"))
            .next(format!("choose one of {}", classes.join(", "))));
    }
    let (outcome, events) = block_on(async {
        let online = Online::start(wallet, gateway, policy(class)).await?;
        let Request { method, target, headers, body, .. } = request;
        let calling = online.payer.call(method, &target, headers, body);
        let outcome = match online.unless_interrupted(calling).await {
            Ok(outcome) => outcome,
            Err(interrupted) => {
                online.end().await;
                return Err(interrupted);
            }
        };
        // What is left in flight, of this call or of one that was cut short, is pursued; for a moment this waits for it.
        let left = matches!(&outcome, Ok(_) | Err(CallError::Unreachable(_) | CallError::Refused(_)));
        if left {
            online.wait(MOMENT, |status, _| status.in_flight <= status.disputed).await?;
        }
        let events = online.told.all();
        online.end().await;
        Ok::<_, Trouble>((outcome, events))
    })??;
    if !place.json {
        news(&events).iter().for_each(|line| eprintln!("halometer: {line}"));
    }
    match outcome {
        Ok(paid) => answered(place, args, &paid),
        Err(error) => failed(place, error),
    }
}

fn answered(place: &Place, args: &CallArgs, paid: &Paid) -> Outcome {
    let accepted = &paid.accepted;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    // The receipt is between gateway and wallet, which keeps it.
    let headers = || paid.headers.iter().filter(|(name, _)| name.as_str() != RECEIPT_HEADER);
    if place.json {
        let mut all = serde_json::Map::new();
        for (name, value) in headers() {
            let value = match all.get(name.as_str()).and_then(|first| first.as_str()) {
                Some(first) => format!("{first}, {}", text(value)),
                None => text(value),
            };
            all.insert(name.as_str().to_owned(), value.into());
        }
        let body = core::str::from_utf8(&paid.body);
        let value = json!({
            "status": paid.status.as_u16(),
            "headers": all,
            "body": body.ok(),
            "body_base64": body.is_err().then(|| STANDARD.encode(&paid.body)),
            "charge": amount(accepted.charge),
            "cost": amount(accepted.cost),
            "refund": amount(accepted.refund),
            "receipt": verdict(paid.receipt),
        });
        say::say(true, &value, [])?;
    } else {
        if args.include {
            let mut head = format!("HTTP {}\r\n", paid.status);
            headers().for_each(|(name, value)| head.extend([name.as_str(), ": ", &text(value), "\r\n"]));
            head.push_str("\r\n");
            say::bytes(head.as_bytes())?;
        }
        say::bytes(&paid.body)?;
        // Two lines on one screen, of which the first may have no end.
        if std::io::stdout().is_terminal() && !paid.body.ends_with(b"\n") {
            eprintln!();
        }
        eprintln!("halometer: cost {} of {} micro-credits{}", accepted.cost, accepted.charge, remark(paid.receipt));
    }
    Ok(if paid.status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn failed(place: &Place, error: CallError) -> Outcome {
    // It is settled: an error, but none that leaves anything open.
    let settled = matches!(error.credit(), CreditState::Spent(_));
    let too_small = matches!(
        &error,
        CallError::Refused(details) | CallError::Failed { details, .. } if details.kind() == Some(Problem::CapReached)
    );
    let spread = matches!(error, CallError::Spread);
    let mut trouble = Trouble::from(error);
    if spread {
        trouble = trouble
            .next("use a smaller --class; a program that keeps the wallet open gathers the credit in quiet times");
    }
    if too_small {
        trouble = trouble.next("the class is too small for what may be asked: use a larger --class for all calls");
    }
    let code = trouble.tell(place.json);
    Ok(if settled { ExitCode::from(1) } else { code })
}

/// For scripts.
const fn verdict(verdict: ReceiptVerdict) -> &'static str {
    match verdict {
        ReceiptVerdict::Absent => "absent",
        ReceiptVerdict::Fair => "fair",
        ReceiptVerdict::Unexplained => "unexplained",
        ReceiptVerdict::NotSigned => "not-signed",
        ReceiptVerdict::Overcharged => "overcharged",
        ReceiptVerdict::Contradicted => "contradicted",
        _ => "unknown",
    }
}

const fn remark(verdict: ReceiptVerdict) -> &'static str {
    match verdict {
        ReceiptVerdict::Fair => "",
        ReceiptVerdict::Absent | ReceiptVerdict::NotSigned => "; the gateway gave no receipt",
        ReceiptVerdict::Unexplained => "; the receipt does not say what for",
        ReceiptVerdict::Overcharged => "; that is more than the tariff says: see `disputes`",
        ReceiptVerdict::Contradicted => "; the receipt says otherwise: see `disputes`",
        _ => "; what the receipt says is unknown to this program",
    }
}

/// What is to be sent.
struct Request {
    method: Method,
    /// Scheme and host, if they were given.
    origin: Option<String>,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn of(args: &CallArgs) -> Result<Self, Trouble> {
        let (origin, target) = destination(&args.target)?;
        let body = args.data.as_deref().map(read_body).transpose()?;
        let method = match &args.method {
            Some(method) => Method::from_bytes(method.as_bytes())
                .map_err(|_| Trouble::yours(format!("`{method}` is no method")).next("give one as in GET"))?,
            None if body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut headers = HeaderMap::new();
        for text in &args.headers {
            let (name, value) = read_header(text)?;
            headers.append(name, value);
        }
        if body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self { method, origin, target, headers, body: body.unwrap_or_default() })
    }
}

fn destination(text: &str) -> Result<(Option<String>, String), Trouble> {
    let wrong = || {
        Trouble::yours(format!("`{text}` is neither a path nor a URL")).next("give a path that begins with /, or a URL")
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if text.starts_with('/') => Ok((None, target)),
        (Some(scheme @ ("http" | "https")), Some(authority)) => Ok((Some(format!("{scheme}://{authority}")), target)),
        _ => Err(wrong()),
    }
}

fn read_header(text: &str) -> Result<(HeaderName, HeaderValue), Trouble> {
    let wrong = || Trouble::yours(format!("`{text}` is no header")).next("give it as in 'Accept: text/plain'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
    if name == header::AUTHORIZATION {
        return Err(Trouble::yours("the Authorization header is what pays").next("leave it out"));
    }
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

fn read_body(data: &str) -> Result<Bytes, Trouble> {
    let read = |from: &mut dyn std::io::Read, name: &Path| {
        let mut bytes = Vec::new();
        from.take(LONGEST_BODY + 1).read_to_end(&mut bytes).map_err(|error| Trouble::disk(name, &error))?;
        if bytes.len() as u64 > LONGEST_BODY {
            return Err(Trouble::yours(format!("the body is longer than {LONGEST_BODY} bytes")).next("send less"));
        }
        Ok(Bytes::from(bytes))
    };
    match (data, data.strip_prefix('@')) {
        ("-", _) => read(&mut std::io::stdin().lock(), Path::new("standard input")),
        (_, Some(path)) => {
            let path = Path::new(path);
            let mut file = std::fs::File::open(path).map_err(|error| Trouble::disk(path, &error))?;
            read(&mut file, path)
        }
        (data, None) => Ok(Bytes::copy_from_slice(data.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_paths_or_urls() {
        assert_eq!(destination("/v1/x?y=1").unwrap(), (None, "/v1/x?y=1".to_owned()));
        let url = (Some("https://a.example:8".to_owned()), "/v1".to_owned());
        assert_eq!(destination("https://a.example:8/v1").unwrap(), url);
        for wrong in ["", "v1", "ftp://a.example/", "//a.example/x", "a.example/x", "/a b"] {
            assert!(destination(wrong).is_err() || wrong.starts_with("//"), "{wrong}");
        }
    }

    #[test]
    fn headers_are_read_and_the_one_that_pays_is_not_taken() {
        assert_eq!(read_header("Accept:  text/plain ").unwrap().1, "text/plain");
        for wrong in ["Accept", ": x", "A b: c", "X: a\nb", "authorization: Bearer x"] {
            assert!(read_header(wrong).is_err(), "{wrong}");
        }
    }
}
