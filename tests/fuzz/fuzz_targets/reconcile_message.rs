//! What a peer says about its set, as a question and as an answer: ranges ascend within a message, no message is too
//! long, and nothing is told that is not so.
#![no_main]

use std::convert::Infallible;

use kith_proto::limits;
use kith_proto::peer::reconcile::{Element, Initiator, Set, Sum, respond};

/// A hundred elements, three with each stamp.
struct Few {
    elements: Vec<Element>,
    lowest: Element,
}

impl Few {
    fn new() -> Self {
        let elements = (0..100_u8).map(|number| Element { stamp: u64::from(number / 3), id: [number; 32] });
        Self { elements: elements.collect(), lowest: Element::FIRST }
    }

    fn within(&mut self, lower: &Element, upper: &Element) -> &[Element] {
        assert!(lower < upper && self.lowest <= *lower);
        self.lowest = *lower;
        let place = |bound| self.elements.partition_point(|it| it < bound);
        &self.elements[place(lower)..place(upper)]
    }
}

fn sum(elements: &[Element]) -> Sum {
    let mut sum = Sum::default();
    elements.iter().for_each(|it| sum.add(&it.id));
    sum
}

impl Set for Few {
    type Error = Infallible;

    fn sum(&mut self, lower: &Element, upper: &Element) -> Result<Sum, Infallible> {
        Ok(sum(self.within(lower, upper)))
    }

    fn elements(&mut self, lower: &Element, upper: &Element, limit: usize) -> Result<Vec<Element>, Infallible> {
        Ok(self.within(lower, upper).iter().take(limit).copied().collect())
    }

    fn split(&mut self, lower: &Element, upper: &Element, parts: usize) -> Result<Vec<(Element, Sum)>, Infallible> {
        let within = self.within(lower, upper);
        let size = within.len().div_ceil(parts).max(1);
        let mut rest = within;
        let mut found = Vec::new();
        while let (Some(before), Some(at)) = (rest.get(size - 1), rest.get(size)) {
            found.push((Element::between(before, at), sum(&rest[..size])));
            rest = &rest[size..];
        }
        found.push((*upper, sum(rest)));
        Ok(found)
    }
}

libfuzzer_sys::fuzz_target!(|message: &[u8]| {
    if let Ok(answer) = respond(&mut Few::new(), message) {
        assert!(answer.len() <= limits::RECONCILE_MESSAGE);
    }
    let mut initiator = Initiator::new();
    initiator.begin(&mut Few::new()).expect("the set can be read");
    // The same answer again: most of it is about what is settled by then.
    for _ in 0..2 {
        let mut few = Few::new();
        let Ok(step) = initiator.step(&mut few, message) else { return };
        assert!(step.reply.is_none_or(|reply| reply.len() <= limits::RECONCILE_MESSAGE));
        assert!(step.have.iter().all(|it| few.elements.contains(it)));
    }
});
