// SPDX-License-Identifier: GPL-2.0

//! What a real adapter answered to the commands of mlx5_core's probe, against what the
//! model answers.

mod differences;

use super::driver::{
    Machine,
    DATA, //
};
use crate::{
    config::Config,
    ifc::{
        self,
        event, //
    },
};
use differences::{
    Difference,
    DIFFERENCES, //
};
use serde_json::Value;
use std::{
    fmt::Write,
    ops::Range, //
};

/// Its first line says where it comes from.
const RECORDING: &str = include_str!("../../recordings/connectx4-probe.jsonl");
/// Where pages are that the driver lends: the model does not look into them.
const LENT: u64 = 1 << 40;
const PAGE: u64 = 4096;
const EQE_LEN: usize = 64;

/// A command, and its answer.
struct Exchange {
    n: usize,
    /// All of it; 0 if it was not recorded.
    input: Vec<u8>,
    out_len: usize,
    /// As far as it was recorded.
    output: Vec<u8>,
    /// The driver heard of its end by an event.
    by_event: bool,
    token: u8,
    signature_in: u8,
    signature_out: u8,
}

impl Exchange {
    fn parse(line: &str) -> Self {
        let json: Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| json[key].as_u64().map(|number| number as usize);
        let byte = |key: &str| {
            let text = json[key].as_str().unwrap();
            u8::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
        };
        let bytes = |key: &str, len: usize| {
            let text = json[key].as_str().unwrap();
            let bytes = (0..text.len()).step_by(2);
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            let mut bytes: Vec<u8> = bytes.map(byte).collect();
            bytes.resize(len, 0);
            bytes
        };
        let out_len = number("out_len").unwrap();
        Self {
            n: number("n").unwrap(),
            input: bytes("in", number("in_len").unwrap()),
            out_len,
            output: bytes("out", number("out_recorded").unwrap_or(out_len)),
            by_event: json["completion"] == "event",
            token: number("token").unwrap() as u8,
            signature_in: byte("signature_in"),
            signature_out: byte("signature_out"),
        }
    }

    fn opcode(&self) -> u16 {
        ifc::OPCODE.get(&self.input) as u16
    }

    /// Input and output are in the slot.
    fn is_short(&self) -> bool {
        self.input.len() <= 16 && self.out_len <= 16
    }
}

/// The same driver on another machine.
struct Replay {
    machine: Machine,
    /// Pages that were lent.
    lent: u64,
    /// Where the next EQ goes, and where the one for commands is.
    free: u64,
    command_eq: Option<u64>,
    /// The last capabilities that were told: by the adapter, and by the model.
    told: [Vec<u8>; 2],
}

impl Replay {
    fn new() -> Self {
        Self {
            machine: Machine::new(Config::default()),
            lent: 0,
            free: DATA,
            command_eq: None,
            told: [const { Vec::new() }; 2],
        }
    }

    /// The command as the driver would have sent it here. UARs need no other number: those
    /// that were allocated are compared with the adapter's.
    fn moved(&mut self, exchange: &Exchange) -> Vec<u8> {
        let mut input = exchange.input.clone();
        match exchange.opcode() {
            ifc::MANAGE_PAGES => {
                for address in input[ifc::MANAGE_PAGES_PAS..].chunks_exact_mut(8) {
                    address.copy_from_slice(&(LENT + self.lent * PAGE).to_be_bytes());
                    self.lent += 1;
                }
                let count = ifc::NUM_PAGES.get(&input);
                assert_eq!(count as usize, (input.len() - ifc::MANAGE_PAGES_PAS) / 8);
            }
            ifc::CREATE_EQ => {
                let len = (EQE_LEN as u64) << ifc::EQ_LOG_SIZE.get(&input);
                assert_eq!(len, PAGE << ifc::EQ_LOG_PAGE_SIZE.get(&input));
                let at = self.free.next_multiple_of(len);
                self.free = at + len;
                input[ifc::EQ_PAS..].copy_from_slice(&at.to_be_bytes());
                if (ifc::EQ_EVENTS.get(&input) >> event::CMD) & 1 == 1 {
                    self.command_eq = Some(at);
                }
            }
            // It sends back what it was told, with its changes.
            ifc::SET_HCA_CAP => {
                let [adapter, model] = &self.told;
                let capability = input.iter_mut().zip(adapter).zip(model);
                for ((byte, adapter), model) in capability.skip(ifc::CAPABILITY) {
                    *byte ^= adapter ^ model;
                }
            }
            _ => (),
        }
        input
    }

    /// Sends a command. Returns the model's answer as far as the adapter's is known, and
    /// how the signature has changed.
    fn send(&mut self, exchange: &Exchange) -> (Vec<u8>, u8) {
        let input = self.moved(exchange);
        let machine = &mut self.machine;
        machine.submit(0, &input, exchange.out_len);
        let slot = machine.slot(0);
        if exchange.is_short() {
            slot[8..16].fill(0);
            slot[48..56].fill(0);
            slot[60] = exchange.token;
        }
        let signature = !slot.iter().fold(0, |sum, byte| sum ^ byte);
        slot[61] = signature;
        if exchange.is_short() {
            assert_eq!(signature, exchange.signature_in, "line {}", exchange.n);
        }
        machine.ring(1);
        let slot = machine.slot(0);
        assert_eq!(slot[63] & 1, 0, "the command has not ended");
        let changed = slot[61] ^ signature;
        let reply = machine.reply(0, exchange.out_len);
        assert_eq!(reply.delivery, 0);
        if exchange.opcode() == ifc::QUERY_HCA_CAP {
            self.told = [exchange.output.clone(), reply.output.clone()];
        }
        (reply.output[..exchange.output.len()].to_vec(), changed)
    }

    /// Commands that ended with an event.
    fn events(&self) -> usize {
        let eqes = self.command_eq.map_or(&[][..], |at| {
            &self.machine.memory.bytes[at as usize..][..EQE_LEN << 8]
        });
        eqes.chunks(EQE_LEN)
            .filter(|eqe| eqe[1] == event::CMD)
            .count()
    }
}

fn bit(bytes: &[u8], at: usize) -> u8 {
    (bytes[at / 8] >> (7 - at % 8)) & 1
}

/// An answer of the adapter, and what the model answers.
struct Answers {
    n: usize,
    adapter: Vec<u8>,
    model: Vec<u8>,
}

impl Answers {
    /// Whether they differ as a line of the table says.
    fn differ_as(&self, line: &Difference) -> Result<(), String> {
        let bits = line.at.bits();
        if bits.end > self.adapter.len() * 8 {
            return Err("is not in the answer".into());
        }
        if bits
            .clone()
            .all(|at| bit(&self.adapter, at) == bit(&self.model, at))
        {
            return Err("does not differ".into());
        }
        match line.model {
            None if bits.clone().all(|at| bit(&self.model, at) == 0) => Ok(()),
            Some(value) if line.at.get(&self.model) == value => Ok(()),
            _ => Err(format!("is another one: {:#x}", line.at.get(&self.model))),
        }
    }

    /// Ranges of bits in which they differ, but for those that lines of the table name.
    fn other_differences(&self, known: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for at in 0..self.adapter.len() * 8 {
            let is_known = known.iter().any(|range| range.contains(&at));
            if is_known || bit(&self.adapter, at) == bit(&self.model, at) {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.end == at => range.end += 1,
                _ => ranges.push(at..at + 1),
            }
        }
        ranges
    }
}

/// Compares answers with the table. Returns what is wrong.
fn compare(answers: &[Answers], table: &[Difference]) -> String {
    let mut wrong = String::new();
    for line in table {
        for n in line.answers {
            let answers = answers.iter().find(|answers| answers.n == *n);
            let differ = answers.map_or(Err("has no such answer".into()), |a| a.differ_as(line));
            if let Err(what) = differ {
                let Difference { name, why, .. } = line;
                writeln!(wrong, "line {n}: {name}, in the table ({why}), {what}").unwrap();
            }
        }
    }
    for answers in answers {
        let mine = table
            .iter()
            .filter(|line| line.answers.contains(&answers.n));
        let known: Vec<Range<usize>> = mine.map(|line| line.at.bits()).collect();
        for range in answers.other_differences(&known) {
            let (n, byte, first) = (answers.n, range.start / 8, range.start % 8);
            let bits = |bytes: &[u8]| -> String {
                let bits = range.clone().map(|at| bit(bytes, at).to_string());
                bits.collect()
            };
            let (adapter, model) = (bits(&answers.adapter), bits(&answers.model));
            writeln!(
                wrong,
                "line {n}: byte {byte:#x}, bit {first}: {adapter} of the adapter, {model} of the \
                 model, not in the table"
            )
            .unwrap();
        }
    }
    wrong
}

#[test]
fn the_model_answers_as_the_adapter_but_for_the_table() {
    let mut replay = Replay::new();
    let mut answers = Vec::new();
    let mut events = 0;
    for exchange in RECORDING.lines().skip(1).map(Exchange::parse) {
        let (mut model, changed) = replay.send(&exchange);
        events += usize::from(exchange.by_event);
        assert_eq!(replay.events(), events, "line {}", exchange.n);
        // Behind the answer: how firmware changes the signature of the slot.
        model.push(changed);
        let mut adapter = exchange.output;
        adapter.push(exchange.signature_in ^ exchange.signature_out);
        answers.push(Answers {
            n: exchange.n,
            adapter,
            model,
        });
    }
    assert_eq!((answers.len(), events), (42, 14));
    let wrong = compare(&answers, DIFFERENCES);
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(replay.machine.memory.violations, [""; 0]);
}

#[test]
fn what_the_table_does_not_say_or_says_in_vain_is_told() {
    let answers = |model| {
        [Answers {
            n: 3,
            adapter: vec![0, 0x12],
            model: vec![0, model],
        }]
    };
    let line = |model| Difference {
        answers: &[3],
        name: "field",
        at: ifc::field(1, 4, 4),
        model,
        why: "another number",
    };
    for (model, table, wrong) in [
        (0x12, vec![], ""),
        (0x14, vec![line(Some(4))], ""),
        (0x10, vec![line(None)], ""),
        (
            0x14,
            vec![],
            "line 3: byte 0x1, bit 5: 01 of the adapter, 10 of the model, not in the table\n",
        ),
        (
            0x94,
            vec![line(Some(4))],
            "line 3: byte 0x1, bit 0: 0 of the adapter, 1 of the model, not in the table\n",
        ),
        (
            0x12,
            vec![line(Some(2))],
            "line 3: field, in the table (another number), does not differ\n",
        ),
        (
            0x14,
            vec![line(None)],
            "line 3: field, in the table (another number), is another one: 0x4\n",
        ),
    ] {
        assert_eq!(compare(&answers(model), &table), wrong);
    }
    let other = Difference {
        answers: &[4],
        ..line(Some(4))
    };
    let wrong = compare(&answers(0x12), &[other]);
    assert_eq!(
        wrong,
        "line 4: field, in the table (another number), has no such answer\n"
    );
}
