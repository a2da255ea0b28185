//! The entropy coding of JPEG: Huffman codes, sequential and progressive (ITU-T T.81, annexes F and G).

use crate::{
    Result,
    jpeg_decode::{Frame, ZIGZAG, bad},
};

/// A Huffman table.
pub(crate) struct Huffman {
    /// By the next 8 bits: the code's length above its symbol; 0 where the code is longer.
    short: [u16; 256],
    /// By length: the number after its last code, and its first symbol's place less its first code.
    end: [u32; 17],
    shift: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// Reads a table, and gives what follows it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let wrong = || bad("a Huffman table is cut short or makes no sense");
        let (counts, rest) = bytes.split_at_checked(16).ok_or_else(wrong)?;
        let all = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(all).filter(|_| all <= 256).ok_or_else(wrong)?;
        let mut table = Self { short: [0; 256], end: [0; 17], shift: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16 {
            let count = u32::from(counts[length - 1]);
            table.shift[length] = place as i32 - code as i32;
            if code + count > 1 << length {
                return Err(wrong());
            }
            for _ in 0..count {
                if length <= 8 {
                    let (first, each) = ((code as usize) << (8 - length), 1 << (8 - length));
                    table.short[first..first + each].fill((length as u16) << 8 | u16::from(symbols[place]));
                }
                code += 1;
                place += 1;
            }
            table.end[length] = code;
            code <<= 1;
        }
        Ok((table, rest))
    }
}

/// The bits of a scan, up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next `count` bits, at the top.
    value: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, value: 0, count: 0 }
    }

    /// The next bits, 1 to 16; zeros where there are no more.
    fn peek(&mut self, bits: u32) -> u32 {
        while self.count <= 48 {
            let byte = match self.bytes[self.at..] {
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                [0xff, ..] | [] => break,
                [byte, ..] => {
                    self.at += 1;
                    byte
                }
            };
            self.value |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        (self.value >> (64 - bits)) as u32
    }

    fn skip(&mut self, bits: u32) -> Result<()> {
        self.count = self.count.checked_sub(bits).ok_or_else(|| bad("its pixels are cut short"))?;
        self.value <<= bits;
        Ok(())
    }

    fn take(&mut self, bits: u32) -> Result<u32> {
        if bits == 0 {
            return Ok(0);
        }
        let value = self.peek(bits);
        self.skip(bits)?;
        Ok(value)
    }

    fn bit(&mut self) -> Result<bool> {
        Ok(self.take(1)? == 1)
    }

    fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        let code = self.peek(16);
        let short = table.short[(code >> 8) as usize];
        if short != 0 {
            self.skip(u32::from(short >> 8))?;
            return Ok(short as u8);
        }
        for length in 9..=16 {
            let code = code >> (16 - length);
            if code < table.end[length] {
                self.skip(length as u32)?;
                return Ok(table.symbols[(code as i32 + table.shift[length]) as usize]);
            }
        }
        self.skip(16)?;
        Err(bad("its pixels are damaged: there is no such Huffman code"))
    }

    /// A signed number of so many bits, of which the first says the sign.
    fn number(&mut self, bits: u32) -> Result<i32> {
        if bits > 15 {
            return Err(bad("its pixels are damaged: a coefficient has more than 15 bits"));
        }
        let value = self.take(bits)? as i32;
        Ok(if bits > 0 && value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value })
    }

    /// Passes over the restart marker of a number, which comes next.
    fn restart(&mut self, number: usize) -> Result<()> {
        (self.value, self.count) = (0, 0);
        while self.bytes[self.at..].starts_with(&[0xff, 0xff]) {
            self.at += 1;
        }
        let wanted = 0xd0 + (number % 8) as u8;
        if !self.bytes[self.at..].starts_with(&[0xff, wanted]) {
            return Err(bad("its pixels are damaged: a restart marker is missing"));
        }
        self.at += 2;
        Ok(())
    }
}

/// One component of a scan.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// What a scan's header says.
pub(crate) struct Scan {
    parts: Vec<Part>,
    /// The first and last coefficient.
    from: usize,
    to: usize,
    /// Bits below those that this scan brings, and whether it brings one to coefficients that are there.
    low: u32,
    refines: bool,
}

impl Scan {
    /// Reads the header. Components that come for the first time keep the quantizers as they are now.
    pub(crate) fn parse(segment: &[u8], frame: &mut Frame, quantizers: &[Option<[u16; 64]>; 4]) -> Result<Self> {
        let wrong = || bad("a scan's header is cut short or makes no sense");
        let (&count, rest) = segment.split_first().ok_or_else(wrong)?;
        let count = usize::from(count);
        if !(1..=4).contains(&count) || rest.len() != 2 * count + 3 {
            return Err(wrong());
        }
        let (named, last) = rest.split_at(2 * count);
        let mut parts: Vec<Part> = Vec::new();
        for pair in named.chunks_exact(2) {
            let component = frame.components.iter().position(|component| component.id == pair[0]).ok_or_else(wrong)?;
            let (dc, ac) = (usize::from(pair[1] >> 4), usize::from(pair[1] & 15));
            if dc > 3 || ac > 3 || parts.last().is_some_and(|before| before.component >= component) {
                return Err(wrong());
            }
            parts.push(Part { component, dc, ac });
        }
        let units =
            parts.iter().map(|part| frame.components[part.component].sampling).map(|(x, y)| x * y).sum::<usize>();
        let (from, to, high, low) = match frame.progressive {
            true => (last[0].into(), last[1].into(), last[2] >> 4, last[2] & 15),
            false => (0, 63, 0, 0),
        };
        let band = if from == 0 { !frame.progressive || to == 0 } else { from <= to && to < 64 && count == 1 };
        if !band || low > 13 || (high != 0 && high != low + 1) || (count > 1 && units > 10) {
            return Err(wrong());
        }
        for part in &parts {
            let component = &mut frame.components[part.component];
            if component.quantizers.is_none() {
                let table = quantizers[component.table];
                component.quantizers = Some(table.ok_or_else(|| bad("a table of quantizers is missing"))?);
            }
        }
        Ok(Self { parts, from, to, low: low.into(), refines: high != 0 })
    }

    /// Decodes the scan, and gives the number of bytes up to the next marker.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        frame: &mut Frame,
        (dc, ac): (&[Option<Huffman>; 4], &[Option<Huffman>; 4]),
        restart: usize,
    ) -> Result<usize> {
        let missing = || bad("a Huffman table is missing");
        let mut tables = Vec::new();
        for part in &self.parts {
            let (dc, ac) = (dc[part.dc].as_ref(), ac[part.ac].as_ref());
            let needs = (self.from == 0 && !self.refines, self.to > 0);
            if (needs.0 && dc.is_none()) || (needs.1 && ac.is_none()) {
                return Err(missing());
            }
            tables.push((dc, ac));
        }
        let mut state = State { bits: Bits::new(bytes), before: [0; 4], run: 0 };
        let alone = self.parts.len() == 1;
        let across = if alone { frame.components[self.parts[0].component].blocks } else { frame.units };
        for unit in 0..across.0 * across.1 {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                state.bits.restart(unit / restart - 1)?;
                (state.before, state.run) = ([0; 4], 0);
            }
            let (x, y) = (unit % across.0, unit / across.0);
            for (index, (part, tables)) in self.parts.iter().zip(&tables).enumerate() {
                let component = &mut frame.components[part.component];
                let (wide, high) = if alone { (1, 1) } else { component.sampling };
                for place in 0..wide * high {
                    let block = (x * wide + place % wide, y * high + place / wide);
                    if frame.progressive {
                        let coefficients = &mut component.coefficients[block.1 * component.stored.0 + block.0];
                        self.block(&mut state, index, *tables, coefficients)?;
                    } else {
                        let mut coefficients = [0; 64];
                        self.block(&mut state, index, *tables, &mut coefficients)?;
                        component.transform(block, &coefficients);
                    }
                }
            }
        }
        Ok(state.bits.at)
    }

    /// What the scan says of one block.
    fn block(
        &self,
        state: &mut State<'_>,
        index: usize,
        (dc, ac): (Option<&Huffman>, Option<&Huffman>),
        coefficients: &mut [i16; 64],
    ) -> Result<()> {
        if self.from == 0 {
            if self.refines {
                coefficients[0] |= i16::from(state.bits.bit()?) << self.low;
            } else if let Some(dc) = dc {
                let bits = state.bits.symbol(dc)?;
                let before = &mut state.before[index];
                *before = before.wrapping_add(state.bits.number(bits.into())?);
                coefficients[0] = (*before << self.low) as i16;
            }
        }
        match ac {
            Some(ac) if self.to > 0 && self.refines => self.refine(state, ac, coefficients),
            Some(ac) if self.to > 0 => self.first(state, ac, coefficients),
            _ => Ok(()),
        }
    }

    /// The coefficients after the first, for the first time.
    fn first(&self, state: &mut State<'_>, ac: &Huffman, coefficients: &mut [i16; 64]) -> Result<()> {
        if state.run > 0 {
            state.run -= 1;
            return Ok(());
        }
        let mut k = self.from.max(1);
        while k <= self.to {
            let symbol = state.bits.symbol(ac)?;
            let (zeros, bits) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if bits > 0 {
                k += zeros as usize;
                if k > self.to {
                    return Err(bad("its pixels are damaged: a block has too many coefficients"));
                }
                coefficients[ZIGZAG[k]] = (state.bits.number(bits)? << self.low) as i16;
                k += 1;
            } else if zeros == 15 {
                k += 16;
            } else {
                // Sequential pictures know no runs: there this is 0, the end of the block.
                state.run = (1 << zeros) - 1 + state.bits.take(zeros)?;
                break;
            }
        }
        Ok(())
    }

    /// One more bit of the coefficients after the first.
    fn refine(&self, state: &mut State<'_>, ac: &Huffman, coefficients: &mut [i16; 64]) -> Result<()> {
        let one = 1i16 << self.low;
        let mut k = self.from;
        while state.run == 0 && k <= self.to {
            let symbol = state.bits.symbol(ac)?;
            let (mut zeros, bits) = (u32::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            if bits > 0 {
                new = if state.bits.bit()? { one } else { -one };
            } else if zeros < 15 {
                state.run = (1 << zeros) + state.bits.take(zeros)?;
                break;
            }
            while k <= self.to {
                let coefficient = &mut coefficients[ZIGZAG[k]];
                if *coefficient != 0 {
                    state.bits.correct(coefficient, one)?;
                } else if zeros == 0 {
                    *coefficient = new;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            k += 1;
        }
        if state.run > 0 {
            for &place in ZIGZAG.get(k..=self.to).unwrap_or_default() {
                if coefficients[place] != 0 {
                    state.bits.correct(&mut coefficients[place], one)?;
                }
            }
            state.run -= 1;
        }
        Ok(())
    }
}

impl Bits<'_> {
    /// Takes the next bit of a coefficient that is not 0.
    fn correct(&mut self, coefficient: &mut i16, one: i16) -> Result<()> {
        if self.bit()? && *coefficient & one == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient > 0 { one } else { -one });
        }
        Ok(())
    }
}

/// What goes on from block to block.
struct State<'a> {
    bits: Bits<'a>,
    /// The first coefficient of the block before, by component.
    before: [i32; 4],
    /// Blocks in which no coefficient comes for the first time.
    run: u32,
}
