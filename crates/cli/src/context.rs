//! What every command is given: the configuration, the printer, and a client when it asks for one.

use adjutant_client::{Builder, Client};

use crate::configuration::Configuration;
use crate::failure::{Failure, Outcome};
use crate::output::Printer;

/// What every command is given.
pub(crate) struct Context {
    /// Flags, environment, file, defaults.
    pub(crate) configuration: Configuration,
    /// Where the answer goes.
    pub(crate) printer: Printer,
}

impl Context {
    /// A client of the configured server.
    pub(crate) fn client(&self) -> Outcome<Client> {
        Ok(self.client_builder()?.build()?)
    }

    /// The same, for those who set more.
    pub(crate) fn client_builder(&self) -> Outcome<Builder> {
        let mut builder = Client::builder(&self.configuration.url()?);
        if let Some(token) = self.configuration.token()? {
            builder = builder.token(token);
        }
        if let Some(pem) = self.configuration.ca()? {
            builder = builder.authorities(pem);
        }
        Ok(builder)
    }
}

impl From<adjutant_client::Error> for Failure {
    fn from(error: adjutant_client::Error) -> Self {
        let failure = if matches!(error, adjutant_client::Error::Invalid(_)) {
            Self::usage(error.to_string())
        } else {
            Self::new(error.to_string())
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
