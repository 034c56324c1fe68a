// SPDX-License-Identifier: GPL-2.0

//! A VF that is suspended: it neither reads nor writes memory and interrupts nobody. What its
//! driver asks of it then, it does when it resumes.

use crate::{
    config::Config,
    hca::{
        Function,
        Hca, //
    },
    host::{
        FunctionId,
        Host, //
    },
    image::{
        Image,
        Refused, //
    },
    migration::Running,
    records::{
        Joined,
        Joining,
        Part,
        Records, //
    },
    resources::{
        Resources,
        Undo, //
    }, //
};

/// What was loaded, and lacks something.
#[derive(Clone, Debug)]
pub struct Half {
    resources: Resources,
    joined: Joined,
}

/// While the records of one state take the place of those of another, there can be some of both.
const STATES: usize = 2;

/// What there is of a state that lacks something: its records, and what was joined of the one that
/// was begun.
pub type Parts = (Records, Joined);

impl Half {
    /// The objects that were loaded.
    #[cfg(test)]
    pub fn objects(&self) -> &crate::objects::Objects {
        self.resources.objects()
    }

    /// What there is, for tests.
    pub fn parts(&self, config: &Config, id: FunctionId) -> Parts {
        let fresh = Resources::after_reset(config, id);
        (self.resources.records(&fresh), self.joined.clone())
    }

    /// All of an image, or nothing. Its cost is that of what the image has, whatever was loaded
    /// before. Returns what undoes it.
    fn load(
        &mut self,
        config: &Config,
        id: FunctionId,
        parts: Vec<Part>,
    ) -> Result<Loading, Refused> {
        let joining = self.joined.join(parts).ok_or(Refused::Record)?;
        let mut fresh = Resources::after_reset(config, id);
        let mut undo = Vec::new();
        let all_loaded = joining.complete.iter().all(|(key, bytes)| {
            let loaded = self
                .resources
                .load(config, &mut fresh, id, *key, bytes.as_deref());
            let is_loaded = loaded.is_ok();
            undo.extend(loaded);
            is_loaded && self.resources.fit(STATES)
        });
        let loading = Loading { undo, joining };
        if !all_loaded {
            self.undo(loading);
            return Err(Refused::Record);
        }
        Ok(loading)
    }

    /// Takes back what an image has changed.
    fn undo(&mut self, loading: Loading) {
        for undo in loading.undo.into_iter().rev() {
            undo(&mut self.resources);
        }
        self.joined.undo(loading.joining);
    }

    /// Whether nothing is missing, or why not.
    fn check_whole(&self) -> Result<(), Refused> {
        if !self.resources.fit(1) {
            return Err(Refused::Record);
        }
        match self.joined.is_complete() && self.resources.is_whole() {
            true => Ok(()),
            false => Err(Refused::Missing),
        }
    }
}

/// What an image has changed of what was loaded before.
struct Loading {
    undo: Vec<Undo>,
    joining: Joining,
}

/// Where what an image goes on from was before.
enum Origin {
    /// It begins anew; this was kept beside the function.
    Anew(Option<Box<Half>>),
    /// Beside the function.
    Half,
    /// It was the function's own.
    Function,
}

impl Function {
    /// Whether it starts nothing by itself.
    pub fn is_suspended(&self) -> bool {
        let vf = self.vf.as_ref();
        vf.is_some_and(|vf| vf.vhca.running != Running::Fully)
    }
}

impl Hca {
    /// Whether a function starts nothing by itself.
    pub fn is_suspended(&self, id: FunctionId) -> bool {
        let function = self.functions.get(usize::from(id.0));
        function.is_some_and(Function::is_suspended)
    }

    /// Whether a function does not even answer.
    pub fn is_stopped(&self, id: FunctionId) -> bool {
        let function = self.functions.get(usize::from(id.0));
        let vf = function.and_then(|function| function.vf.as_ref());
        vf.is_some_and(|vf| vf.vhca.running == Running::Suspended)
    }

    /// LOAD_VHCA_STATE: all of an image, or nothing. What lacks something that comes in a later
    /// image is kept beside the function, which stays as it was.
    pub fn load_image(
        &mut self,
        host: &mut dyn Host,
        id: FunctionId,
        mut image: Image<'_>,
    ) -> Result<(), Refused> {
        let parts = std::mem::take(&mut image.parts);
        let Some((mut half, origin)) = self.begin_load(id, image.begins) else {
            return Ok(());
        };
        let loading = match half.load(&self.config, id, parts) {
            Ok(loading) => loading,
            Err(refused) => {
                self.refuse_load(id, half, origin);
                return Err(refused);
            }
        };
        // Pages of the table that are missing leave no hole that could be seen, so what an image
        // says of more is believed. The last one is looked at as a whole.
        let result = match image.more {
            true => Ok(()),
            false => half.check_whole(),
        };
        if let Err(refused) = result {
            half.undo(loading);
            self.refuse_load(id, half, origin);
            return Err(refused);
        }
        let half = match image.more {
            false => {
                self.load_resources(host, id, half.resources);
                None
            }
            true => {
                if let Origin::Function = origin {
                    let mut own = half.clone();
                    own.undo(loading);
                    self.give_back(id, own.resources);
                }
                Some(half)
            }
        };
        if let Some(vf) = &mut self.functions[usize::from(id.0)].vf {
            image.load(&mut vf.vhca.state);
            vf.vhca.loaded();
            vf.vhca.half = half;
        }
        Ok(())
    }

    /// Takes out what an image goes on from. `None` if the function is no VF.
    fn begin_load(&mut self, id: FunctionId, begins: bool) -> Option<(Box<Half>, Origin)> {
        let vf = self.functions[usize::from(id.0)].vf.as_mut()?;
        let (resources, origin) = match (begins, vf.vhca.half.take()) {
            (false, Some(half)) => return Some((half, Origin::Half)),
            (true, before) => {
                let fresh = Resources::after_reset(&self.config, id);
                (fresh, Origin::Anew(before))
            }
            (false, None) => (self.take_resources(id), Origin::Function),
        };
        let joined = Joined::default();
        Some((Box::new(Half { resources, joined }), origin))
    }

    /// Puts what an image went on from back.
    fn refuse_load(&mut self, id: FunctionId, half: Box<Half>, origin: Origin) {
        let half = match origin {
            Origin::Anew(before) => before,
            Origin::Half => Some(half),
            Origin::Function => {
                self.give_back(id, half.resources);
                None
            }
        };
        if let Some(vf) = &mut self.functions[usize::from(id.0)].vf {
            vf.vhca.half = half;
        }
    }

    /// A VF goes on.
    pub fn resumed(&mut self, host: &mut dyn Host, id: FunctionId) {
        let function = &mut self.functions[usize::from(id.0)];
        function.vport.resume();
        let slots = std::mem::take(&mut function.rung);
        self.resume_commands(host, id);
        self.doorbell(host, id, slots);
        // How far to go is in memory.
        for sq in self.objects(id).sqs.values_mut() {
            sq.behind = true;
        }
        self.send_function(host, id);
        let now = host.now();
        let cqs = self.objects(id).cqs.iter_mut();
        let tells: Vec<(u32, bool)> = cqs.map(|(cqn, cq)| (*cqn, cq.tells(now))).collect();
        for (cqn, tells) in tells {
            self.tell(host, id, cqn, tells);
        }
        self.tell_link(host, id);
        for eq in self.objects(id).eqs.values_mut() {
            eq.resume(host, id);
        }
        self.wake(host);
    }
}
