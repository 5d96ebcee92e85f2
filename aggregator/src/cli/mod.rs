//! The command line: arguments, and what each command prints.
//!
//! Answers go to stdout, everything else to stderr; a failure's reason is on stderr and in a non-zero exit code.

mod command;
mod dead_letter;
mod init;
mod issue_text;
mod output;
mod project;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use picket_common::config::{Override, Sources, Span, load_with};
use picket_common::error_text::reason;
use picket_common::ids::{PublicKey, RelayId};
use picket_common::telemetry::init_logs;
use picket_common::timestamp::Timestamp;

use crate::accounts::check_login_name;
use crate::admin::{Chosen, Request};
use crate::config::{AggregatorConfig, ENV_PREFIX, STANDARD_FILE};
use crate::fleet::Retirement;
use crate::projects::KeyState;
use crate::query::IssueFilter;
use crate::server::{self, ConfigSource};

/// Exit code of a configuration that can't be used (`EX_CONFIG` of sysexits).
const EXIT_CONFIG: u8 = 78;

/// Picket's aggregator.
#[derive(Debug, Parser)]
#[command(name = "picket-aggregator", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Configuration file [default: /etc/picket/aggregator.toml where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept, in place of `data_dir` of the configuration
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print answers as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare a data directory: certificate authority, first admin, empty stores. May be repeated
    Init {
        /// What the first admin logs in with: an email address, or any name without blanks
        #[arg(long, default_value = "admin", value_name = "EMAIL_OR_NAME")]
        admin_email: String,
    },
    /// Take batches from relays, serve pages and API
    Serve,
    /// Projects and their DSNs
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Keys of a project, which its DSNs name
    #[command(subcommand)]
    Key(KeyCommand),
    /// Relays: invite, list, revoke
    #[command(subcommand)]
    Relay(RelayCommand),
    /// The certificate authority: show, rotate, retire
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Issues: list, show
    #[command(subcommand)]
    Issues(IssuesCommand),
    /// Users of the pages
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens for the API and sentry-cli
    #[command(subcommand)]
    Token(TokenCommand),
    /// What could not be read, decoded or inserted: list, show, replay, drop
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Read the configuration, say what is wrong with it, and exit with 78 if anything is
    CheckConfig,
    /// How things stand
    Status,
}

#[derive(Debug, Subcommand)]
enum ProjectCommand {
    /// Make a project and print its DSN
    Create {
        /// The project's name
        name: String,
        /// Its platform, such as python or javascript
        #[arg(long)]
        platform: Option<String>,
    },
    /// All projects
    List,
    /// Settings: origins, retention, filters, quotas, scrubbing
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print all settings of a project as JSON
    Get {
        /// The project
        #[arg(value_name = "ID_OR_SLUG")]
        project: String,
    },
    /// Change settings: each key of the document replaces that setting, null brings its default back
    Set {
        /// The project
        #[arg(value_name = "ID_OR_SLUG")]
        project: String,
        /// A JSON document [default: stdin]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// The keys of a project
    List {
        /// The project
        #[arg(value_name = "ID_OR_SLUG")]
        project: String,
    },
    /// Make another key and print its DSN
    Create {
        /// The project
        #[arg(value_name = "ID_OR_SLUG")]
        project: String,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
    },
    /// Refuse everything under a key
    Disable {
        /// The key, as `key list` shows it
        public_key: PublicKey,
    },
    /// Take data under a key again
    Enable {
        /// The key, as `key list` shows it
        public_key: PublicKey,
    },
}

#[derive(Debug, Subcommand)]
enum RelayCommand {
    /// Print a token with which one relay may join
    Invite {
        /// What the relay will be called [default: its host's name]
        #[arg(long)]
        name: Option<String>,
        /// How long the token is good
        #[arg(long, default_value = "1h", value_name = "SPAN")]
        ttl: Span,
    },
    /// All relays
    List,
    /// Shut a relay out for good
    Revoke {
        /// Its id, as `relay list` shows it
        id: RelayId,
    },
}

#[derive(Debug, Subcommand)]
enum AuthorityCommand {
    /// The authorities in force, and which relays have not moved to the one that signs
    Show,
    /// Make another authority that signs from now on. Relays are told, and renew their certificates; the former stays in force
    Rotate,
    /// End the former authority. Refused while relays need it
    Retire {
        /// Retire it all the same: relays that need it must join anew
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
enum IssuesCommand {
    /// Issues, last seen first
    List {
        /// Only with this text in title or culprit
        query: Option<String>,
        /// Only of this project
        #[arg(long, value_name = "SLUG_OR_ID")]
        project: Option<String>,
        /// How many at most [default: all]
        #[arg(long)]
        limit: Option<u32>,
    },
    /// One issue and its newest event
    Show {
        /// Id or short id
        id: String,
        /// Say why its newest event is grouped as it is
        #[arg(long)]
        explain: bool,
    },
}

#[derive(Debug, Subcommand)]
enum DeadLetterCommand {
    /// The newest 10 000 dead letters
    List,
    /// One dead letter, why it was set aside and what it holds
    Show {
        /// Its id, as `dead-letter list` shows it
        id: u64,
    },
    /// Process again what was set aside
    Replay(WhichDeadLetters),
    /// Forget what was set aside
    Drop(WhichDeadLetters),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichDeadLetters {
    /// Its id, as `dead-letter list` shows it
    id: Option<u64>,
    /// All that there are
    #[arg(long)]
    all: bool,
}

impl WhichDeadLetters {
    /// clap takes exactly one of the two.
    fn chosen(&self) -> Chosen {
        self.id.map_or(Chosen::All, Chosen::One)
    }
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user; the password is asked for on a terminal, else read from stdin
    Create {
        /// What to log in with: an email address, or any name without blanks
        #[arg(value_name = "EMAIL_OR_NAME")]
        email: String,
        /// Make a password and print it once
        #[arg(long)]
        generate: bool,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a new token; it is not shown again
    Create {
        /// What it may do, separated by commas
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
    },
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    // Nothing but in builds for fault tests.
    picket_common::failpoint::set_up();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("can't start the runtime"), 1),
    };
    let config = match configuration(&cli) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    let ended = runtime.block_on(run(cli, config));
    // What still waits, for a database or a disk, must not keep the process from ending.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    // Nothing can be done if stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "picket-aggregator: {}", reason(error.as_ref()));
    ExitCode::from(code)
}

fn configuration(cli: &Cli) -> anyhow::Result<AggregatorConfig> {
    // The others may be answered by a serving aggregator, whatever became of its files.
    let needs_library = matches!(cli.command, Command::Init { .. } | Command::Serve | Command::CheckConfig);
    let surroundings =
        |config: &AggregatorConfig| if needs_library { config.clickhouse.check_library() } else { Ok(()) };
    Ok(load_with(&sources(&cli.common), surroundings)?)
}

fn sources(args: &CommonArgs) -> Sources {
    let data_dir = args.data_dir.as_ref().map(|path| Override {
        flag: "--data-dir",
        key: "data_dir",
        value: toml::Value::String(path.display().to_string()),
    });
    Sources::of_process(args.config.clone(), STANDARD_FILE, ENV_PREFIX, data_dir.into_iter().collect())
}

/// How to serve what a command with these arguments prepared.
fn serve_command(args: &CommonArgs) -> String {
    let flags = [("--config", &args.config), ("--data-dir", &args.data_dir)];
    let given = flags.into_iter().filter_map(|(flag, path)| Some(format!(" {flag} {}", shell_word(path.as_ref()?))));
    format!("picket-aggregator serve{}", given.collect::<String>())
}

/// A path as a shell takes it for one word.
fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+@%,:=".contains(character);
    if !path.is_empty() && path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

async fn run(cli: Cli, config: AggregatorConfig) -> anyhow::Result<()> {
    let json = cli.common.json;
    let request = match cli.command {
        Command::Init { admin_email } => {
            return init::run(&config, &admin_email, &serve_command(&cli.common), json).await;
        }
        Command::Serve => {
            command::refuse_second_server(&config).await?;
            let logs = init_logs(&config.log)?;
            let common = cli.common;
            let read = move || {
                let check = |config: &AggregatorConfig| config.clickhouse.check_library();
                load_with(&sources(&common), check).map_err(Into::into)
            };
            return server::serve(ConfigSource { config, read: Arc::new(read), logs }).await;
        }
        Command::CheckConfig => return output::config_is_valid(&config, json),
        Command::Project(ProjectCommand::Create { name, platform }) => Request::CreateProject { name, platform },
        Command::Project(ProjectCommand::List) => Request::ListProjects,
        Command::Project(ProjectCommand::Config(ConfigCommand::Get { project })) => Request::ShowSettings { project },
        Command::Project(ProjectCommand::Config(ConfigCommand::Set { project, file })) => {
            let change = project::read_settings(file.as_deref())?;
            let reply = command::ask(&config, Request::ChangeSettings { project: project.clone(), change }).await?;
            return project::changed(reply, &project, json);
        }
        Command::Key(KeyCommand::List { project }) => Request::ListKeys { project },
        Command::Key(KeyCommand::Create { project, label }) => Request::CreateKey { project, label },
        Command::Key(KeyCommand::Disable { public_key }) => {
            Request::SetKeyState { public_key, state: KeyState::Disabled }
        }
        Command::Key(KeyCommand::Enable { public_key }) => {
            Request::SetKeyState { public_key, state: KeyState::Enabled }
        }
        Command::Relay(RelayCommand::Invite { name, ttl }) => Request::InviteRelay { name, ttl: ttl.get() },
        Command::Relay(RelayCommand::List) => Request::ListRelays,
        Command::Relay(RelayCommand::Revoke { id }) => Request::RevokeRelay { id },
        Command::Authority(AuthorityCommand::Show) => Request::ShowAuthority,
        Command::Authority(AuthorityCommand::Rotate) => Request::RotateAuthority,
        Command::Authority(AuthorityCommand::Retire { force }) => {
            Request::RetireAuthority { retirement: if force { Retirement::Forced } else { Retirement::IfNotNeeded } }
        }
        Command::Issues(IssuesCommand::List { query, project, limit }) => {
            let filter = IssueFilter { project: None, text: query, limit: limit.unwrap_or(u32::MAX), offset: 0 };
            return command::list_issues(&config, project.as_deref(), filter, json).await;
        }
        Command::Issues(IssuesCommand::Show { id, explain }) => {
            let reply = command::ask(&config, Request::ShowIssue { id }).await?;
            return output::issue(reply, &config.public_url, explain, json);
        }
        Command::User(UserCommand::Create { email, generate }) => {
            check_login_name(&email)?;
            let password = if generate { None } else { Some(command::read_password()?) };
            Request::CreateUser { email, password }
        }
        Command::Token(TokenCommand::Create { scopes, label }) => Request::CreateToken { label, scopes },
        Command::DeadLetter(DeadLetterCommand::List) => Request::ListDeadLetters,
        Command::DeadLetter(DeadLetterCommand::Show { id }) => Request::ShowDeadLetter { id },
        Command::DeadLetter(DeadLetterCommand::Replay(which)) => Request::ReplayDeadLetters(which.chosen()),
        Command::DeadLetter(DeadLetterCommand::Drop(which)) => Request::DropDeadLetters(which.chosen()),
        Command::Status => Request::Status,
    };
    let reply = command::ask(&config, request).await?;
    output::reply(reply, json, Timestamp::now()).context("can't print the answer")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory, Parser as _};

    use super::{Cli, serve_command};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn init_names_the_command_that_serves_what_it_prepared() {
        let told = |arguments: &[&str]| serve_command(&Cli::try_parse_from(arguments).unwrap().common);
        assert_eq!(told(&["picket-aggregator", "init"]), "picket-aggregator serve");
        assert_eq!(
            told(&["picket-aggregator", "init", "--data-dir", "/srv/it's here", "--config", "a.toml"]),
            r"picket-aggregator serve --config a.toml --data-dir '/srv/it'\''s here'"
        );
    }
}
