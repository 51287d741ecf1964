//! What callers and servers say to each other: paths, and the answers that are no protocol bytes.

mod answers;
mod authority;
pub(in crate::http) mod padding;
mod pages;
mod paths;

#[cfg(feature = "server")]
pub(in crate::http) use answers::settled_answer;
pub use answers::{SessionAnswer, SettlementAnswer, SpentCount, TransferAnswer};
pub use authority::authorities;
#[cfg(feature = "server")]
pub(in crate::http) use padding::pad_answer;
pub use padding::{ANSWER_SIZES, LENGTH_HEADER, PADDING_HEADER, REQUEST_SIZES};
#[cfg(any(feature = "client", test))]
pub use pages::read_pages;
#[cfg(feature = "server")]
pub(in crate::http) use pages::write_page;
pub use paths::{
    CANCEL_PATH, CLEARING_PATH, CLOSE_PATH, DIRECTORY_PATH, MINT_PATH, NOTICE_PATH, OPENAPI_PATH, RESTORE_CHANGE_PATH,
    RESTORE_MEMO_PATH, RESTORE_MINTS_PATH, ROLLOVER_PATH, SESSION_PATH, SETTLEMENT_PATH, SPENT_PATH, TRANSFER_PATH,
    bucket_path, spent_path,
};
