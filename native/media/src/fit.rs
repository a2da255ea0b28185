//! How a picture of any size is brought to a wanted one.

use crate::canvas::Rect;

/// What happens where the aspects differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The middle of the picture fills the wanted size; what sticks out is cut off.
    Cover,
    /// The whole picture lies in the middle of the wanted size; the rest is white.
    Contain,
}

/// What part of the picture goes where. Both rectangles are whole pixels, and no larger than the pictures they lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The part of the picture that is shown.
    pub crop: Rect,
    /// Where it lies in the wanted size, resized to this rectangle.
    pub content: Rect,
}

impl Fit {
    /// Places a picture. With [`Fit::Cover`] the crop has the wanted aspect, to the nearest pixel, and lies in the middle;
    /// with [`Fit::Contain`] the content has the picture's aspect. An odd pixel goes to the right or below.
    ///
    /// # Panics
    /// When a side is 0.
    #[must_use]
    pub fn place(self, picture: (u32, u32), wanted: (u32, u32)) -> Placement {
        let whole = |(width, height): (u32, u32)| Rect { x: 0, y: 0, width, height };
        match self {
            Self::Cover => Placement { crop: largest(wanted, picture), content: whole(wanted) },
            Self::Contain => Placement { crop: whole(picture), content: largest(picture, wanted) },
        }
    }
}

/// The largest rectangle of an aspect within a size, in its middle.
fn largest(aspect: (u32, u32), within: (u32, u32)) -> Rect {
    assert!(aspect.0 > 0 && aspect.1 > 0 && within.0 > 0 && within.1 > 0);
    let (a, b) = ((u64::from(aspect.0), u64::from(aspect.1)), (u64::from(within.0), u64::from(within.1)));
    let scaled = |n: u64, by: u64, over: u64, most: u64| ((n * by + over / 2) / over).clamp(1, most) as u32;
    let (width, height) = if a.0 * b.1 >= b.0 * a.1 {
        (within.0, scaled(a.1, b.0, a.0, b.1))
    } else {
        (scaled(a.0, b.1, a.1, b.0), within.1)
    };
    Rect { x: (within.0 - width) / 2, y: (within.1 - height) / 2, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_cuts_and_contain_pads_in_the_middle() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        let cover = Fit::Cover.place((640, 480), (64, 64));
        assert_eq!((cover.crop, cover.content), (rect(80, 0, 480, 480), rect(0, 0, 64, 64)));
        let contain = Fit::Contain.place((640, 480), (64, 64));
        assert_eq!((contain.crop, contain.content), (rect(0, 0, 640, 480), rect(0, 8, 64, 48)));
        assert_eq!(Fit::Contain.place((3, 1000), (64, 64)).content, rect(31, 0, 1, 64));
        assert_eq!(Fit::Cover.place((1, 8192), (256, 64)).crop, rect(0, 4095, 1, 1));
        for fit in [Fit::Cover, Fit::Contain] {
            let same = fit.place((64, 64), (64, 64));
            assert_eq!(same.crop, same.content);
        }
    }

    #[test]
    fn rectangles_stay_inside_for_any_sizes() {
        for picture in [(1, 1), (1, 8192), (8192, 1), (7, 5), (1920, 1080), (33, 32)] {
            for wanted in [(1, 1), (64, 64), (256, 64), (64, 8192)] {
                for fit in [Fit::Cover, Fit::Contain] {
                    let Placement { crop, content } = fit.place(picture, wanted);
                    assert!(crop.check("a", picture.0, picture.1).is_ok(), "{picture:?} {wanted:?} {crop:?}");
                    assert!(content.check("a", wanted.0, wanted.1).is_ok(), "{picture:?} {wanted:?} {content:?}");
                }
            }
        }
    }
}
