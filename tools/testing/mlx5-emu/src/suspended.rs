// SPDX-License-Identifier: GPL-2.0

//! A VF that is suspended: it neither reads nor writes memory and interrupts nobody. What its
//! driver asks of it then, it does when it resumes.

use crate::{
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
    records::Joined,
    resources::Resources, //
};

/// What was loaded, and lacks what is in a later image.
#[derive(Clone, Debug)]
pub struct Half {
    resources: Resources,
    joined: Joined,
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

    /// LOAD_VHCA_STATE: all of an image, or nothing. The records of one that a later image
    /// follows are kept beside the function, which stays as it was.
    pub fn load_image(
        &mut self,
        host: &mut dyn Host,
        id: FunctionId,
        image: Image<'_>,
    ) -> Result<(), Refused> {
        let fresh = Resources::after_reset(&self.config, id);
        let Some(vf) = &self.functions[usize::from(id.0)].vf else {
            return Ok(());
        };
        let (mut resources, mut joined) = match (image.begins, vf.vhca.half.as_deref()) {
            (true, _) => (fresh.clone(), Joined::default()),
            (false, Some(half)) => (half.resources.clone(), half.joined.clone()),
            (false, None) => (self.resources(id), Joined::default()),
        };
        let records = joined.join(image.parts.clone()).ok_or(Refused::Record)?;
        for (key, bytes) in records {
            let loaded = resources.load(&self.config, &fresh, id, key, bytes.as_deref());
            loaded.map_err(|_| Refused::Record)?;
        }
        if !resources.fit() {
            return Err(Refused::Record);
        }
        let is_whole = joined.is_complete() && resources.is_whole();
        if !(image.more || is_whole) {
            return Err(Refused::Missing);
        }
        // Pages of the table that are missing leave no hole that could be seen, so what an image
        // says of more is believed.
        let half = match is_whole && !image.more {
            true => {
                self.load_resources(host, id, resources);
                None
            }
            false => Some(Box::new(Half { resources, joined })),
        };
        if let Some(vf) = &mut self.functions[usize::from(id.0)].vf {
            image.load(&mut vf.vhca.state);
            vf.vhca.half = half;
        }
        Ok(())
    }

    /// A VF goes on.
    pub fn resumed(&mut self, host: &mut dyn Host, id: FunctionId) {
        let function = &mut self.functions[usize::from(id.0)];
        function.vport.resume();
        let slots = std::mem::take(&mut function.rung);
        self.resume_commands(host, id);
        self.doorbell(host, id, slots);
        let sqs: Vec<u32> = self.objects(id).sqs.keys().copied().collect();
        for sqn in sqs {
            self.send_posted(host, id, sqn);
        }
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
