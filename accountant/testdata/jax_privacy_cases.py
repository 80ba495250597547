"""Records epsilons of jax-privacy 2.0.0 as jax_privacy_cases.json.

    python3 -m venv venv && venv/bin/pip install jax-privacy==2.0.0
    venv/bin/python jax_privacy_cases.py > jax_privacy_cases.json
"""
import json

from jax_privacy import accounting

MESH = 1e-4
CONFIG = accounting.PldAccountantConfig(value_discretization_interval=MESH)
out = []


def record(kind, accountant, neighboring, n, batch, s, t, delta, event, **more):
  p = accounting.DpParams(
      noise_multipliers=s, num_samples=n, delta=delta, batch_size=batch, **more)
  e = dict(mechanism='poisson-gaussian', noise_multiplier=s,
           sampling_probability=batch / n, count=t, **event)
  if 'batch_limit' in event:
    e['mechanism'] = 'truncated-poisson-gaussian'
  out.append(dict(kind=kind, neighboring=neighboring, delta=delta, events=[e],
                  pld=float(accountant.compute_epsilon(t, p)), mesh=MESH))


example = accounting.DpsgdTrainingAccountant(CONFIG)
user = accounting.DpsgdTrainingUserLevelAccountant(CONFIG)
for n, batch, s, t, delta in ((60000, 4096, 13.003, 2197, 1e-5), (30000, 256, 0.561, 1171, 1e-5),
                              (50000, 1000, 1.3, 750, 1e-6)):
  record('sampled', example, 'add-or-remove', n, batch, s, t, delta, {})
for n, batch, s, t, delta, k in ((60000, 600, 3.0, 1000, 1e-5, 3), (10000, 50, 1.5, 400, 1e-5, 8),
                                 (60000, 4096, 20.0, 500, 1e-6, 2)):
  record('user', user, 'add-or-remove', n, batch, s, t, delta,
         dict(examples_per_unit=k), examples_per_user=k)
for n, batch, s, t, delta, limit in ((60000, 600, 1.0, 1000, 1e-5, 650), (60000, 600, 1.0, 1000, 1e-5, 720),
                                     (10000, 50, 0.8, 400, 1e-6, 80)):
  record('truncated', example, 'zero-out', n, batch, s, t, delta,
         dict(batch_limit=limit, dataset_size=n), truncated_batch_size=limit)
print(json.dumps(out, indent=1))
