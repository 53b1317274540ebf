//! Where a service is deployed: its settings, the open target and the ledger of the environment.
//! Opened once; serves deploy, rollback, promote, status, history and lock.

use std::path::{Path, PathBuf};

use futures::future::join;

use super::any_target::{AnyTarget, with_target};
use super::engine::{self, DeployRequest, Intent, timestamp};
use super::outcome::Outcome;
use super::removal::{self, PreviewTerms};
use super::target::{State, Target};
use super::{Image, Order, Running, Sources};
use crate::aws::Session;
use crate::cli::Environ;
use crate::config::platform;
use crate::config::settings::{self, Destination, Settings, Target as TargetSettings};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::ledger::{HeadEntry, Ledger, Record, Scope};
use crate::report::Report;

/// One service in one environment.
pub struct Site {
    pub settings: Settings,
    pub destination: Destination,
    target: AnyTarget,
    ledger: Option<Ledger>,
    report: Report,
}

/// What a site is opened with.
pub struct SiteOptions<'a> {
    pub settings: Settings,
    pub destination: Destination,
    /// The session of the environment's role; none for local.
    pub session: Option<Session>,
    /// Where the ledger of the environment is, for eks and ecs.
    pub records: Option<&'a platform::Records>,
    /// Where service.yaml stands.
    pub sources: Sources,
    /// The layout that holds the image, for local.
    pub layout: Option<PathBuf>,
    pub environ: &'a Environ,
    pub report: &'a Report,
}

impl Site {
    /// Opens the target and the ledger. Nothing is written.
    ///
    /// # Errors
    /// Refused when the target or its session cannot be opened.
    pub async fn open(options: SiteOptions<'_>) -> Result<Site> {
        let SiteOptions {
            settings,
            mut destination,
            session,
            records,
            sources,
            layout,
            environ,
            report,
        } = options;
        let place = LedgerPlace {
            service: &settings.name,
            environment: &settings.environment,
            destination: &destination,
            session: session.as_ref(),
            records,
        };
        let asking = async {
            match &session {
                Some(session) => session.account().await,
                None => None,
            }
        };
        let (ledger, account) = join(open_ledger(&place, environ, report), asking).await;
        let ledger = ledger?;
        // Who is signed in on a laptop may be of another account than platform.yaml says.
        if account.is_some() {
            destination.account = account;
        }
        let (session, layout) = (session.as_ref(), layout.as_deref());
        let target =
            AnyTarget::open(&destination, session, &sources, layout, environ, report).await?;
        Ok(Site { settings, destination, target, ledger, report: report.clone() })
    }

    /// The ledger of the environment.
    ///
    /// # Errors
    /// Bad input when platform.yaml names no bucket for it.
    pub fn ledger(&self) -> Result<&Ledger> {
        self.ledger.as_ref().ok_or_else(|| missing_ledger(&self.destination))
    }

    /// Deploys `image` with the settings of the site.
    ///
    /// # Errors
    /// As [`engine::deploy`].
    pub async fn deploy_image(&self, image: Image, mut intent: Intent<'_>) -> Result<Outcome> {
        let migration = self.settings.before_deploy.as_ref().filter(|_| self.settings.irreversible);
        intent.irreversible = migration.cloned().unwrap_or_default();
        intent.timeout += self.settings.strategy.pauses();
        let order = self.order(image);
        let unversioned =
            Image { digest: Digest::placeholder(), version: String::new(), ..order.image.clone() };
        let configuration = self.order(unversioned);
        with_target!(&self.target, target => {
            let wanted = target.render(&order).await?;
            let config_hash = target.render(&configuration).await?.hash()?.to_string();
            self.start(target, wanted, config_hash, intent).await
        })
    }

    /// Looks whether a deploy of `image` would be refused. Nothing is written.
    ///
    /// # Errors
    /// As the target refuses, all at once.
    pub async fn check_ahead(&self, image: Image) -> Result<()> {
        let order = self.order(image);
        with_target!(&self.target, target => {
            let wanted = target.render(&order).await?;
            engine::check_ahead(target, wanted, self.ledger.as_ref(), &self.report).await
        })
    }

    /// Deploys the stored state of an earlier record, config included.
    ///
    /// # Errors
    /// Refused when the record has no state that can be read here; else as [`engine::deploy`].
    pub async fn deploy_record(&self, record: &Record, intent: Intent<'_>) -> Result<Outcome> {
        let hash = record.state_hash.as_ref().ok_or_else(|| {
            Error::refused(format!("cannot go back to record {}: it has no state", record.number))
        })?;
        let bytes = self.ledger()?.read_state(hash).await?;
        let config_hash = record.config_hash.clone().unwrap_or_default();
        with_target!(&self.target, target => {
            let wanted = State::from_json(&bytes, name_of(target))?;
            self.start(target, wanted, config_hash, intent).await
        })
    }

    /// The objects that differ from what a good record says.
    ///
    /// # Errors
    /// As the target refuses.
    pub async fn read_drift(&self, good: &HeadEntry) -> Result<Vec<String>> {
        let Some(hash) = good.state_hash.as_ref() else { return Ok(Vec::new()) };
        let bytes = self.ledger()?.read_state(hash).await?;
        with_target!(&self.target, target => {
            engine::read_drift(target, State::from_json(&bytes, name_of(target))?).await
        })
    }

    async fn start<T: Target>(
        &self,
        target: &T,
        wanted: State<T::Documents>,
        config_hash: String,
        intent: Intent<'_>,
    ) -> Result<Outcome> {
        let request = DeployRequest { wanted, config_hash, intent };
        if request.intent.plan_only {
            return engine::plan(target, &request, self.ledger.as_ref(), &self.report).await;
        }
        engine::deploy(target, &request, self.ledger()?, &self.report).await
    }

    /// Makes what a preview is in, before the first look at it. Nothing to do elsewhere.
    ///
    /// # Errors
    /// Bad input when nobody says which pull request; as the target refuses.
    pub async fn make_room(&self) -> Result<()> {
        let Some(preview) = &self.destination.preview else { return Ok(()) };
        let number = preview.number.ok_or_else(|| {
            Error::input(format!("cannot deploy to {}: which preview?", self.settings.environment))
                .why("each pull request has one of its own")
                .fix("say which one: --pull-request NUMBER")
        })?;
        let expires = timestamp() + preview.expires;
        self.target
            .make_room(&PreviewTerms { service: &self.settings.owner.service, number, expires })
            .await
    }

    /// Removes the preview that this is. Returns what was removed.
    ///
    /// # Errors
    /// Superseded, when another run holds the lock until the end; as the target refuses.
    pub async fn remove_preview(&self, intent: &Intent<'_>) -> Result<Vec<String>> {
        let order = self.order(no_image());
        with_target!(&self.target, target => {
            let rendered = target.render(&order).await?;
            removal::remove_preview(target, rendered, self.ledger()?, intent, &self.report).await
        })
    }

    /// The pull requests whose previews are over.
    ///
    /// # Errors
    /// As the target refuses.
    pub async fn list_expired(&self) -> Result<Vec<u64>> {
        let lasts = self.destination.preview.map(|preview| preview.expires).unwrap_or_default();
        let seen = self.target.list_previews(&self.settings.owner.service, lasts).await?;
        let now = timestamp();
        for preview in seen.iter().filter(|preview| preview.expires.is_none()) {
            let number = preview.number;
            self.report.warn(format!("nothing says when the preview of #{number} is over"));
        }
        let over = seen.iter().filter(|preview| preview.expires.is_some_and(|end| end <= now));
        Ok(over.map(|preview| preview.number).collect())
    }

    /// What runs now.
    ///
    /// # Errors
    /// As the target refuses.
    pub async fn read_running(&self) -> Result<Running> {
        let order = self.order(no_image());
        with_target!(&self.target, target => {
            target.read_running(&target.render(&order).await?).await
        })
    }

    fn order(&self, image: Image) -> Order {
        Order { settings: self.settings.clone(), destination: self.destination.clone(), image }
    }
}

/// Stands for an image where none is asked for.
fn no_image() -> Image {
    Image { repository: String::new(), digest: Digest::placeholder(), version: String::new() }
}

/// Where a ledger is.
pub struct LedgerPlace<'a> {
    pub service: &'a str,
    pub environment: &'a str,
    pub destination: &'a Destination,
    /// None for local, whose ledger is a folder.
    pub session: Option<&'a Session>,
    pub records: Option<&'a platform::Records>,
}

/// Opens the ledger of an environment. `None` where platform.yaml does not say where it is.
///
/// # Errors
/// Bad input, when a name cannot be part of a key; refused without a folder for that of local.
pub async fn open_ledger(
    place: &LedgerPlace<'_>,
    environ: &Environ,
    report: &Report,
) -> Result<Option<Ledger>> {
    let destination = destination_name(place.destination, environ);
    let scope =
        Scope { service: place.service, environment: place.environment, destination: &destination };
    let Some(session) = place.session else {
        return Ok(Some(Ledger::in_folder(ledger_folder(environ)?, &scope)));
    };
    let Some(records) = place.records else { return Ok(None) };
    let (bucket, region) = (&records.bucket, &records.region);
    Ledger::in_bucket(session, bucket, region, &scope, report).await.map(Some)
}

/// The error of a command that needs a ledger where platform.yaml names none.
pub fn missing_ledger(destination: &Destination) -> Error {
    let account = destination.registry.as_ref();
    let account = account.map_or("ACCOUNT", |registry| registry.account.as_str());
    Error::input("cannot open the ledger: platform.yaml does not say where deploys are recorded")
        .why("the lock, the history and the way back of eks and ecs live in an S3 bucket")
        .fix(format!(
            "add to platform.yaml (the bucket is created when it is missing):\nrecords: {{bucket: \
             cicd-records-{account}, region: {}}}",
            destination.region
        ))
}

/// The constant of a target that is known by a value only.
fn name_of<T: Target>(_: &T) -> &'static str {
    T::NAME
}

/// What the ledger calls the place that services of an environment run in.
fn destination_name(destination: &Destination, environ: &Environ) -> String {
    let last_part = |name: &str| name.rsplit('/').next().unwrap_or(name).to_string();
    match &destination.target {
        TargetSettings::Local => match environ.get("DOCKER_HOST") {
            Some(host) => super::short_name(&format!("docker.{}", host.replace('/', "-")), 40),
            None => "docker".into(),
        },
        TargetSettings::Eks(eks) => format!("eks.{}.{}", last_part(&eks.cluster), eks.namespace),
        TargetSettings::Ecs { ecs, .. } => format!("ecs.{}", last_part(&ecs.cluster)),
    }
}

/// Where the ledger of `local` lives on this machine.
/// <https://specifications.freedesktop.org/basedir-spec/latest/>
fn ledger_folder(environ: &Environ) -> Result<PathBuf> {
    if let Some(state) = environ.get("XDG_STATE_HOME").filter(|path| Path::new(path).is_absolute())
    {
        return Ok(Path::new(state).join("cicd"));
    }
    let home = environ.get("HOME").ok_or_else(|| {
        Error::refused("cannot find a folder for the ledger of `local`")
            .why("neither XDG_STATE_HOME nor HOME is set")
            .fix("set HOME, or XDG_STATE_HOME to a folder that stays")
    })?;
    Ok(Path::new(home).join(".local/state/cicd"))
}

/// The repository that a service's images are in, with the registry's host; for local its name.
pub fn image_repository(settings: &Settings, destination: &Destination) -> String {
    match &destination.registry {
        Some(registry) => {
            format!(
                "{}/{}",
                registry.host(),
                settings::repository(registry, &settings.owner.service)
            )
        }
        None => settings.name.clone(),
    }
}
