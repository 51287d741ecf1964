use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::http::usage::dialects::Dialect;

const EXACT: Counter = Counter { vocabulary: Vocabulary::O200k, margin: 1 };

/// Running text in ten scripts, and what is no running text.
fn texts() -> Vec<String> {
    let prose = [
        "Anonymous credentials let people pay for a service without telling it who they are, and nobody's the wiser.",
        "Анонимные учётные данные позволяют людям платить за услугу, не сообщая, кто они такие.",
        "गुमनाम क्रेडेंशियल लोगों को यह बताए बिना भुगतान करने देते हैं कि वे कौन हैं।",
        "匿名凭证让人们无需透露身份即可为服务付费。",
        "匿名の資格情報により、人々は自分が誰であるかを明かさずに料金を支払えます。",
        "익명 자격 증명을 사용하면 누구인지 밝히지 않고도 서비스 비용을 지불할 수 있습니다.",
        "تتيح بيانات الاعتماد المجهولة للناس الدفع مقابل خدمة دون إخبارها بهويتهم.",
        "אישורים אנונימיים מאפשרים לאנשים לשלם על שירות מבלי לומר מי הם.",
        "Τα ανώνυμα διαπιστευτήρια επιτρέπουν στους ανθρώπους να πληρώνουν χωρίς να λένε ποιοι είναι.",
        "ข้อมูลประจำตัวที่ไม่ระบุชื่อช่วยให้ผู้คนชำระค่าบริการได้โดยไม่ต้องบอกว่าตนเป็นใคร",
        "ანონიმური მონაცემები ადამიანებს საშუალებას აძლევს გადაიხადონ მომსახურებისთვის.",
    ];
    let mut texts: Vec<String> = prose.iter().map(|text| format!("{text} ").repeat(8)).collect();
    texts.push("fn main() {\n        let x: u64 = 1;\n\n        println!(\"{x}\");\n    }\n\t\treturn;\r\n".repeat(12));
    texts.push("| a | b   | c |\n| --- | --- | ---: |\n| 1 | 22.5 | 3,000 |\n".repeat(12));
    texts.push(" ".repeat(900));
    texts.push("\n \n\t".repeat(200));
    texts.push("-".repeat(900));
    texts.push("=-=-".repeat(200));
    texts.push("QUJDREVGabcd0192+/xYz".repeat(40));
    texts.push("x".repeat(40_000));
    texts.push("it's they'll I'D we've".repeat(40));
    texts.push("🙂👩‍👩‍👧‍👦 ok 🇨🇭".repeat(40));
    texts
}

/// What the vocabulary itself makes of a text.
fn reference(text: &str) -> u64 {
    bpe_openai::o200k_base().count(text) as u64
}

/// Counts a text that comes in pieces of these lengths, in characters.
fn counted(text: &str, lengths: &[usize], event: impl Fn(&str) -> Value) -> u64 {
    let mut count = WordCount::new(EXACT);
    let chat = Dialect::named("openai-chat").unwrap();
    let (mut rest, mut lengths) = (text, lengths.iter().cycle());
    while !rest.is_empty() {
        let at = rest.char_indices().nth(*lengths.next().unwrap()).map_or(rest.len(), |(at, _)| at);
        let (piece, more) = rest.split_at(at);
        count.event(chat, &event(piece));
        rest = more;
    }
    count.least()
}

fn delta(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": { "content": text } }] })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_more_is_counted_than_the_joined_text_has(
        order in proptest::collection::vec(0..21_usize, 1..4),
        lengths in proptest::collection::vec(1..40_usize, 1..6),
    ) {
        let texts = texts();
        let text: String = order.iter().map(|at| texts[*at].as_str()).collect();
        let tokens = reference(&text);
        let least = counted(&text, &lengths, delta);
        prop_assert!(least <= tokens, "{least} of {tokens}: {order:?} by {lengths:?}");
    }
}

#[test]
fn nearly_all_of_a_text_is_counted() {
    for text in texts() {
        let (tokens, least) = (reference(&text), counted(&text, &[4], delta));
        assert!(least <= tokens, "{least} of {tokens}: {text:.40}");
        let runs = text.starts_with(['x', ' ', '\n', '-', '=']);
        assert!(runs || least + 64 >= tokens, "{least} of {tokens}: {text:.40}");
    }
}

#[test]
fn the_same_words_under_several_names_count_once() {
    let text = texts()[0].repeat(4);
    let plain = counted(&text, &[9], delta);
    assert!(plain > 100);
    for mirrored in [
        |text: &str| json!({ "choices": [{ "index": 0, "delta": { "reasoning": text, "reasoning_content": text } }] }),
        |text: &str| json!({ "choices": [{ "index": 0, "delta": { "reasoning": text, "content": text } }] }),
        |text: &str| {
            let details = json!([{ "type": "reasoning.text", "text": text }]);
            json!({ "choices": [{ "index": 0, "delta": { "reasoning": text, "reasoning_details": details } }] })
        },
    ] {
        assert_eq!(counted(&text, &[9], mirrored), plain);
    }
}

#[test]
fn what_is_no_word_counts_nothing() {
    for event in [
        |text: &str| json!({ "choices": [{ "delta": { "audio": { "data": text } } }] }),
        |text: &str| json!({ "choices": [{ "delta": { "tool_calls": [{ "function": { "arguments": text } }] } }] }),
        |text: &str| json!({ "choices": [{ "delta": { "role": text, "signature": text } }], "obfuscation": text }),
    ] {
        assert_eq!(counted(&texts()[0], &[5], event), 0);
    }
}

#[test]
fn a_text_that_is_said_again_and_longer_counts_once() {
    let text = texts()[0].repeat(3);
    let mut count = WordCount::new(EXACT);
    let chat = Dialect::named("openai-chat").unwrap();
    for end in (20..text.len()).step_by(20) {
        count.event(chat, &delta(&text[..end]));
    }
    assert!(count.least() <= reference(&text), "{} of {}", count.least(), reference(&text));
}
