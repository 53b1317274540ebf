//! Objects that are read once and then kept up to date by watches, so that waiting asks nothing.
//!
//! A watch that ends by its time goes on from where it was; whatever else ends one (a version that
//! is too old, a lost connection, an API server that restarts) has its objects read anew. Who may
//! not watch reads them with each look.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::Resource;
use serde::de::DeserializeOwned;

use super::{Api, send_once};
use crate::deploy::eks::object::Key;
use crate::deploy::eks::refusal::Failure;

/// After so many seconds the API server ends a watch, which then goes on anew. Shorter than the
/// time in which a connection has to say something.
const WATCH_SECONDS: u32 = 60;
/// The API server answers at once that a watch has begun.
const OPENING: Duration = Duration::from_secs(2);

type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<DynamicObject>>>>>;

/// What was asked for, and what is known of it by now.
#[derive(Default)]
pub struct Feed(RefCell<HashMap<Question, Source>>);

/// Objects of a kind in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    /// Of the kind; its name is one of the objects', or empty for all that are selected.
    key: Key,
    labels: Option<String>,
    fields: Option<String>,
}

#[derive(Default)]
struct Source {
    objects: Vec<DynamicObject>,
    /// Where a watch goes on.
    version: Option<String>,
    events: Option<Events>,
    /// It cannot be watched: not permitted, or something in between hands on only what is whole.
    is_denied: bool,
}

impl fmt::Debug for Feed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Feed").field(&self.0.borrow().len()).finish()
    }
}

impl Feed {
    /// Whether it hears of all changes by itself.
    pub fn is_live(&self) -> bool {
        let sources = self.0.borrow();
        !sources.is_empty() && sources.values().all(|source| source.events.is_some())
    }

    /// Has everything read anew that is asked for next.
    pub fn clear(&self) {
        self.0.borrow_mut().retain(|_, source| source.is_denied);
    }

    /// Waits for a change of what was asked for, or the end of a watch.
    pub async fn wait_for_change(&self) {
        poll_fn(|context| {
            let mut sources = self.0.borrow_mut();
            let mut changed = false;
            for source in sources.values_mut() {
                changed |= source.poll_events(context);
            }
            if changed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Source {
    /// Notes what came. Returns whether anything did.
    fn poll_events(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Some(events) = &mut self.events {
            let Poll::Ready(event) = events.poll_next_unpin(context) else { break };
            any = true;
            self.note(event);
        }
        any
    }

    fn note(&mut self, event: Option<kube::Result<WatchEvent<DynamicObject>>>) {
        let uid = |object: &DynamicObject| object.metadata.uid.clone();
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                self.version.clone_from(&object.metadata.resource_version);
                match self.objects.iter_mut().find(|known| uid(known) == uid(&object)) {
                    Some(known) => *known = object,
                    None => self.objects.push(object),
                }
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                self.version.clone_from(&object.metadata.resource_version);
                self.objects.retain(|known| uid(known) != uid(&object));
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                self.version = Some(mark.metadata.resource_version);
            }
            Some(Ok(WatchEvent::Error(_)) | Err(_)) => (self.events, self.version) = (None, None),
            // Its time was over.
            None => self.events = None,
        }
    }
}

impl Api {
    /// As [`Api::get`], kept up to date by `feed`.
    pub async fn follow(&self, feed: &Feed, key: &Key) -> Result<Option<DynamicObject>, Failure> {
        let fields = Some(format!("metadata.name={}", key.name));
        let question = Question { key: key.clone(), labels: None, fields };
        Ok(self.ask(feed, question).await?.into_iter().next())
    }

    /// As [`Api::list`], kept up to date by `feed`.
    pub async fn follow_all<K>(
        &self,
        feed: &Feed,
        namespace: &str,
        which: &ListParams,
    ) -> Result<Vec<K>, Failure>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let key = Key::new(&K::api_version(&()), &K::kind(&()), namespace, "");
        let (labels, fields) = (which.label_selector.clone(), which.field_selector.clone());
        let objects = self.ask(feed, Question { key, labels, fields }).await?;
        Ok(objects.into_iter().filter_map(|object| object.try_parse().ok()).collect())
    }

    async fn ask(&self, feed: &Feed, question: Question) -> Result<Vec<DynamicObject>, Failure> {
        let known = feed.0.borrow_mut().remove(&question);
        let mut source = known.unwrap_or_default();
        let _ = poll_fn(|context| Poll::Ready(source.poll_events(context))).now_or_never();
        if source.events.is_none() {
            if source.version.is_some() && !source.is_denied {
                self.watch(&question, &mut source).await;
            }
            if source.events.is_none() {
                (source.objects, source.version) = self.read(&question).await?;
                if !source.is_denied && source.version.is_some() {
                    self.watch(&question, &mut source).await;
                }
            }
        }
        let objects = source.objects.clone();
        feed.0.borrow_mut().insert(question, source);
        Ok(objects)
    }

    /// The objects, and the version that a watch goes on from.
    async fn read(
        &self,
        question: &Question,
    ) -> Result<(Vec<DynamicObject>, Option<String>), Failure> {
        let key = &question.key;
        if !key.name.is_empty() {
            let found = self.get(key).await?;
            let version = found.as_ref().and_then(|found| found.metadata.resource_version.clone());
            return Ok((found.into_iter().collect(), version));
        }
        let objects = self.objects(key, None).await?;
        let which = ListParams {
            label_selector: question.labels.clone(),
            field_selector: question.fields.clone(),
            ..ListParams::default()
        };
        let attempt = format!("list {}", key.kind);
        let list = self.send(&attempt, None, async || objects.list(&which).await).await?;
        Ok((list.items, list.metadata.resource_version))
    }

    /// Watches on from the version of `source`. Where that cannot be done the next look reads again.
    async fn watch(&self, question: &Question, source: &mut Source) {
        let Ok((resource, scope)) = self.find_resource(&question.key, None).await else { return };
        let namespace = question.key.namespace.as_deref().unwrap_or(&self.caller.namespace);
        let objects: kube::Api<DynamicObject> =
            kube::Api::dynamic(self.watcher.clone(), &resource, &scope).constrain(namespace);
        let how = WatchParams {
            label_selector: question.labels.clone(),
            field_selector: question.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let version = source.version.clone().unwrap_or_default();
        let opening = send_once(async || objects.watch(&how, &version).await);
        match tokio::time::timeout(OPENING, opening).await {
            Ok(Ok(events)) => source.events = Some(Box::pin(events)),
            Ok(Err(fault)) => {
                source.is_denied = fault.code() == Some(403);
                source.version = None;
            }
            Err(_) => (source.is_denied, source.version) = (true, None),
        }
    }
}
