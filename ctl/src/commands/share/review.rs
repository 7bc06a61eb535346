//! What came is shown, edited, and settled with what is here. No value is shown.

use std::collections::BTreeSet;

use kith_proto::control::Code;
use kith_proto::control::credential::{
    Meets, OfferedDatabase, OfferedSecret, Resolve, SavedResult, SecretChoice, ShareParams, ShareReview,
    ShareSaveParams,
};
use kith_proto::control::method::{SharesDecline, SharesReview, SharesSave};
use kith_proto::credential::{DatabaseFields, SecretType, Slot};
use kith_proto::text::fold;

use super::{Given, other, purpose, unlocked, why};
use crate::client::Client;
use crate::commands::Context;
use crate::commands::secrets::ask_name;
use crate::error::{Error, Result};
use crate::output::Table;
use crate::prompt;
use crate::values::Slots;

/// What the command line says about what comes.
#[derive(Default)]
pub struct Wishes {
    /// Nothing is asked.
    pub yes: bool,
    pub on_conflict: Option<Resolve>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub path: Option<String>,
    pub secrets: Option<Slots>,
}

impl Wishes {
    /// What is given can be saved, as far as its form goes.
    pub fn check(&self) -> Result<()> {
        self.given().check()
    }

    fn given(&self) -> Given<'_> {
        Given { name: &self.name, description: &self.description, path: &self.path }
    }

    fn wants(&self, slot: Option<Slot>) -> bool {
        match (&self.secrets, slot) {
            (Some(Slots(wanted)), Some(slot)) => wanted.contains(&slot),
            _ => true,
        }
    }
}

/// What is saved where nobody is asked.
pub fn as_it_came(review: &ShareReview, wishes: &Wishes) -> ShareSaveParams {
    let unwanted = review.secrets.iter().filter(|secret| !wishes.wants(secret.slot));
    ShareSaveParams {
        share: review.share.share.clone(),
        name: wishes.name.clone(),
        description: wishes.description.clone(),
        path: wishes.path.clone(),
        on_conflict: wishes.on_conflict.unwrap_or(Resolve::Reuse),
        secrets: unwanted
            .filter_map(|secret| secret.slot)
            .map(|slot| SecretChoice { slot, include: false, name: None, on_conflict: None })
            .collect(),
    }
}

/// Shows what came to somebody, and does what they choose; `None` if they do not want it.
pub fn with_somebody(
    ctx: &Context,
    client: &mut Client,
    review: ShareReview,
    wishes: &Wishes,
) -> Result<Option<SavedResult>> {
    let share = review.share.share.clone();
    show(ctx, &review);
    let mut draft = Draft::new(review, wishes);
    draft.edit(ctx, wishes)?;
    if !draft.settle(ctx)? || !ctx.out.confirm("Save it?", true)? {
        return decline(client, share);
    }
    loop {
        let error = match unlocked(ctx, true, || client.call::<SharesSave>(&draft.params(&share))) {
            Ok(saved) => return Ok(Some(saved)),
            Err(error) if error.is(Code::NameTaken) || error.is(Code::SecretInUse) => error,
            Err(error) => return Err(why(client, &share, error)),
        };
        // A name that was chosen is not free, or what came with a free one has met something since.
        let now = unlocked(ctx, true, || client.call::<SharesReview>(&ShareParams { share: share.clone() }));
        if !draft.look_again(&now.map_err(|error| why(client, &share, error))?) {
            return Err(error);
        }
        // Without what to do now: that is what is asked.
        if let Error::Told { message, .. } = &error {
            ctx.out.note(&format!("kithctl: {message}"));
        }
        if !draft.settle(ctx)? {
            return decline(client, share);
        }
    }
}

fn decline(client: &mut Client, share: String) -> Result<Option<SavedResult>> {
    let params = ShareParams { share };
    client.call::<SharesDecline>(&params).map_err(|error| why(client, &params.share, error))?;
    Ok(None)
}

fn show(ctx: &Context, review: &ShareReview) {
    let mut table = Table::untitled();
    let meets = |meets: Meets| match meets {
        Meets::Nothing => "",
        Meets::Equal => "  (the same is here already)",
        Meets::Another => "  (this name is taken here)",
        Meets::Unknown => "  (see a newer kithctl)",
    };
    if let Some(OfferedDatabase { name, description, path, origin, meets: met }) = &review.database {
        table.pair("database", format!("{name}{}", meets(*met)));
        table.pair("description", description.clone());
        table.pair("path", path.clone());
        table.pair("first made", origin.clone());
    }
    for OfferedSecret { slot, name, kind, meets: met } in &review.secrets {
        let title = slot.map_or("secret", purpose);
        table.pair(title, format!("{name}, {}{}", type_name(*kind), meets(*met)));
    }
    ctx.out.note(&format!("from {}:", other(&review.share)));
    table.lines().iter().for_each(|line| ctx.out.note(&format!("  {line}")));
    if review.share.compat {
        ctx.out.note("WARNING: the code proved nothing: any device on this network could have sent this.");
    }
}

fn type_name(kind: SecretType) -> &'static str {
    match kind {
        SecretType::Unknown => "of a type that this kithctl does not know",
        known => known.name(),
    }
}

/// What is to be saved, as far as it is settled.
struct Draft {
    database: Option<(Thing, DatabaseFields)>,
    secrets: Vec<Thing>,
}

impl Draft {
    fn new(review: ShareReview, wishes: &Wishes) -> Self {
        let database = review.database.map(|it| {
            let OfferedDatabase { name, description, path, meets, .. } = it;
            // What is here of a database cannot be used instead.
            let rule = wishes.on_conflict.filter(|rule| *rule != Resolve::Reuse);
            let thing = Thing::new(What::Database, name.clone(), meets, rule);
            (thing, DatabaseFields { name, description, path, origin: None })
        });
        let secret = |it: OfferedSecret| Thing::new(What::Secret(it.slot), it.name, it.meets, wishes.on_conflict);
        Self { database, secrets: review.secrets.into_iter().map(secret).collect() }
    }

    /// Asks for what may be changed and the command line leaves open.
    fn edit(&mut self, ctx: &Context, wishes: &Wishes) -> Result<()> {
        let Some((database, fields)) = &mut self.database else {
            return self.secrets.iter_mut().try_for_each(|secret| {
                let name = match &wishes.name {
                    Some(name) => name.clone(),
                    None => ask_name(ctx, "Save it as", &secret.name)?,
                };
                secret.rename(name);
                Ok(())
            });
        };
        *fields = wishes.given().complete(ctx, fields.clone())?;
        database.rename(fields.name.clone());
        for secret in &mut self.secrets {
            let What::Secret(Some(slot)) = secret.what else { continue };
            secret.include = match wishes.secrets {
                Some(_) => wishes.wants(Some(slot)),
                None => ctx.out.confirm(&format!("Take its {}, {}?", purpose(slot), secret.name), true)?,
            };
        }
        Ok(())
    }

    fn things(&mut self) -> impl Iterator<Item = &mut Thing> {
        self.database.iter_mut().map(|(database, _)| database).chain(&mut self.secrets).filter(|thing| thing.include)
    }

    /// Settles what meets something else here; `false`: save nothing at all.
    fn settle(&mut self, ctx: &Context) -> Result<bool> {
        for thing in self.things() {
            if !thing.settle(ctx)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// It could not be saved because of a name: whatever may be the reason is asked again. Says whether there is any.
    fn look_again(&mut self, now: &ShareReview) -> bool {
        if let (Some((database, fields)), Some(now)) = (&mut self.database, &now.database) {
            let edited = fields.description != now.description || fields.path != now.path;
            database.meets = if now.meets == Meets::Equal && edited { Meets::Another } else { now.meets };
        }
        for (secret, now) in self.secrets.iter_mut().zip(&now.secrets) {
            secret.meets = now.meets;
        }
        let (mut names, mut open) = (BTreeSet::new(), false);
        for thing in self.things().filter(|thing| thing.given.is_none()) {
            let is_secret = matches!(thing.what, What::Secret(_));
            // Two secrets that came may have one name.
            let twice = is_secret && !names.insert(fold(&thing.name));
            thing.taken = thing.is_renamed() || twice;
            // What is here may be of another type, so that it cannot be used, or not be replaced.
            if is_secret && !thing.is_renamed() {
                thing.before = thing.chosen.take();
            }
            open |= thing.taken || (thing.meets == Meets::Another && thing.chosen.is_none());
        }
        open
    }

    fn params(&self, share: &str) -> ShareSaveParams {
        let share = share.to_owned();
        let Some((database, fields)) = &self.database else {
            let secret = self.secrets.first();
            return ShareSaveParams {
                share,
                name: secret.and_then(Thing::new_name),
                on_conflict: secret.map_or(Resolve::Fail, Thing::rule),
                ..ShareSaveParams::default()
            };
        };
        ShareSaveParams {
            share,
            name: database.new_name(),
            description: Some(fields.description.clone()),
            path: Some(fields.path.clone()),
            on_conflict: database.rule(),
            secrets: self.secrets.iter().filter_map(Thing::choice).collect(),
        }
    }
}

#[derive(Clone, Copy)]
enum What {
    Database,
    Secret(Option<Slot>),
}

/// A database or a secret that came.
struct Thing {
    what: What,
    came_as: String,
    name: String,
    meets: Meets,
    include: bool,
    /// What the command line says about a name that is taken.
    given: Option<Resolve>,
    /// What somebody said about it.
    chosen: Option<Resolve>,
    /// The same, before it could not be done.
    before: Option<Resolve>,
    /// Its name is taken, or may be.
    taken: bool,
}

impl Thing {
    fn new(what: What, name: String, meets: Meets, given: Option<Resolve>) -> Self {
        Self {
            what,
            came_as: name.clone(),
            name,
            meets,
            include: true,
            given,
            chosen: None,
            before: None,
            taken: false,
        }
    }

    fn word(&self) -> &'static str {
        match self.what {
            What::Database => "database",
            What::Secret(_) => "secret",
        }
    }

    /// Whether what has the name that it came with is of no concern. Case does not make another name.
    fn is_renamed(&self) -> bool {
        fold(&self.name) != fold(&self.came_as)
    }

    fn rename(&mut self, name: String) {
        let before = self.is_renamed();
        self.name = name;
        match (before, self.is_renamed()) {
            // Whether it is free is for the daemon to say.
            (_, true) => self.chosen = Some(Resolve::Fail),
            (true, false) => self.chosen = None,
            (false, false) => {}
        }
    }

    /// Asks until it is settled; `false`: save nothing at all.
    fn settle(&mut self, ctx: &Context) -> Result<bool> {
        if std::mem::take(&mut self.taken) {
            let name = ask_name(ctx, &format!("Another name for the {} {}", self.word(), self.came_as), &self.name)?;
            self.rename(name);
        }
        if self.meets != Meets::Another || self.given.or(self.chosen).is_some() {
            return Ok(true);
        }
        ctx.out.note(&format!("Another {} is called {} here.", self.word(), self.name));
        let now = usize::from(self.before == Some(Resolve::Replace));
        let (question, options, default) = match self.what {
            What::Database => {
                ("Replace it, rename the new one, or save nothing", ["replace", "rename", "nothing"], None)
            }
            What::Secret(_) => (
                "Reuse the one that is here, replace it, or rename the new one",
                ["reuse", "replace", "rename"],
                Some(now),
            ),
        };
        let chosen = prompt::choose(ctx.out, question, &options.map(str::to_owned), default)?;
        match options.get(chosen) {
            Some(&"reuse") => self.chosen = Some(Resolve::Reuse),
            Some(&"replace") => self.chosen = Some(Resolve::Replace),
            Some(&"rename") => {
                while !self.is_renamed() {
                    let name = ask_name(ctx, "Name of the new one", "")?;
                    self.rename(name);
                    if !self.is_renamed() {
                        ctx.out.note("that is the name that is taken");
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn new_name(&self) -> Option<String> {
        Some(self.name.clone()).filter(|name| *name != self.came_as)
    }

    fn rule(&self) -> Resolve {
        self.given.or(self.chosen).unwrap_or(Resolve::Fail)
    }

    /// What is done with a secret of a database.
    fn choice(&self) -> Option<SecretChoice> {
        let What::Secret(Some(slot @ (Slot::S3 | Slot::Encryption | Slot::Geocoding))) = self.what else { return None };
        Some(if self.include {
            SecretChoice { slot, include: true, name: self.new_name(), on_conflict: Some(self.rule()) }
        } else {
            SecretChoice { slot, include: false, name: None, on_conflict: None }
        })
    }
}
