/// Why a picture could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself cannot be met: a size, rate or name outside what is accepted.
    #[error("{0}")]
    Refused(String),
    /// The bytes are not a whole, well-formed file of the format they claim.
    #[error("bad {format} file: {reason}")]
    BadFile {
        /// What the file claims to be: `"GIF"`, `"PNG"`, `"WebP"` or `"picture"`.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are of a kind that is known and not decoded.
    #[error("this {format} file cannot be decoded here: {reason}")]
    Unsupported {
        /// What the file is.
        format: &'static str,
        /// What is not supported, and what is.
        reason: String,
    },
    /// The file system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the path.
        context: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The caller asked to stop; nothing is left behind.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The same error, with the path of the file that is bad.
    #[must_use]
    pub fn of(self, path: &std::path::Path) -> Self {
        match self {
            Self::BadFile { format, reason } => {
                Self::BadFile { format, reason: format!("{reason} ({})", path.display()) }
            }
            Self::Unsupported { format, reason } => {
                Self::Unsupported { format, reason: format!("{reason} ({})", path.display()) }
            }
            other => other,
        }
    }

    pub(crate) fn bad(format: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::BadFile { format, reason: reason.to_string() }
    }

    pub(crate) fn unsupported(format: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Unsupported { format, reason: reason.to_string() }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }

    pub(crate) fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }
}
