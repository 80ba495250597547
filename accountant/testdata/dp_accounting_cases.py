"""Records epsilons of dp-accounting 0.6.0 as dp_accounting_cases.json.

    python3 -m venv venv && venv/bin/pip install dp-accounting==0.6.0
    venv/bin/python dp_accounting_cases.py > dp_accounting_cases.json
"""
import json
import math

import dp_accounting as dp
from dp_accounting import pld, rdp
from scipy import stats

NEIGHBORING = {
    'add-or-remove': dp.NeighboringRelation.ADD_OR_REMOVE_ONE,
    'zero-out': dp.NeighboringRelation.ADD_OR_REMOVE_ONE,  # Same pairs for these events.
    'replace-one': dp.NeighboringRelation.REPLACE_ONE,
}


def pld_eps(event, count, n, delta, mesh):
  a = pld.PLDAccountant(NEIGHBORING[n], value_discretization_interval=mesh)
  a.compose(event, count)
  return a.get_epsilon(delta)


out = []


def user(k, q, s, t, delta, mesh=1e-4):
  """Up to k examples of a user, sampled one by one."""
  js = range(k + 1)
  e = dp.dp_event.MixtureOfGaussiansDpEvent(
      s, [float(j) for j in js], [float(stats.binom.pmf(j, k, q)) for j in js])
  out.append(dict(
      kind='user', neighboring='add-or-remove', delta=delta,
      events=[dict(mechanism='poisson-gaussian', noise_multiplier=s,
                   sampling_probability=q, count=t, examples_per_unit=k)],
      pld=pld_eps(e, t, 'add-or-remove', delta, mesh), mesh=mesh))


def truncated(n, q, limit, s, t, delta, mesh=1e-4):
  e = dp.dp_event.TruncatedSubsampledGaussianDpEvent(n, q, limit, s)
  out.append(dict(
      kind='truncated', neighboring='zero-out', delta=delta,
      events=[dict(mechanism='truncated-poisson-gaussian', noise_multiplier=s,
                   sampling_probability=q, count=t, batch_limit=limit,
                   dataset_size=n)],
      pld=pld_eps(e, t, 'zero-out', delta, mesh), mesh=mesh))


def select(q, s, t, mean, shape, delta):
  base = dp.SelfComposedDpEvent(
      dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(s)), t)
  a = rdp.RdpAccountant()
  a.compose(dp.dp_event.RepeatAndSelectDpEvent(base, mean, shape))
  eps, order = a.get_epsilon_and_optimal_order(delta)
  out.append(dict(
      kind='select', neighboring='add-or-remove', delta=delta,
      events=[dict(mechanism='poisson-gaussian', noise_multiplier=s,
                   sampling_probability=q, count=t)],
      mean_runs=mean, shape=-1 if math.isinf(shape) else shape,
      rdp=eps, rdp_order=order))


def discrete(sigma, sensitivity, t, delta, mesh=1e-4):
  p = pld.privacy_loss_distribution.from_discrete_gaussian_mechanism(
      sigma, sensitivity=sensitivity, value_discretization_interval=mesh)
  out.append(dict(
      kind='discrete', neighboring='add-or-remove', delta=delta,
      events=[dict(mechanism='discrete-gaussian', noise_multiplier=sigma / sensitivity,
                   sampling_probability=1, count=t, lattice_sensitivity=sensitivity)],
      pld=p.self_compose(t).get_epsilon_for_delta(delta), mesh=mesh))


def sampled_laplace(q, b, t, delta, mesh=1e-4):
  p = pld.privacy_loss_distribution.from_laplace_mechanism(
      b, sampling_prob=q, value_discretization_interval=mesh)
  out.append(dict(
      kind='sampled-laplace', neighboring='add-or-remove', delta=delta,
      events=[dict(mechanism='poisson-laplace', noise_multiplier=b,
                   sampling_probability=q, count=t)],
      pld=p.self_compose(t).get_epsilon_for_delta(delta), mesh=mesh))


for k in (2, 5, 20):
  user(k, 0.01, 2.0, 500, 1e-5)
user(3, 0.05, 4.0, 1000, 1e-6)
user(8, 0.001, 1.0, 2000, 1e-5)
user(4, 1.0, 10.0, 20, 1e-5)
truncated(10000, 0.01, 110, 1.0, 500, 1e-5)
truncated(10000, 0.01, 130, 1.0, 500, 1e-5)
truncated(10000, 0.01, 160, 1.0, 500, 1e-5)
truncated(60000, 0.0682, 4200, 4.0, 1000, 1e-6)
truncated(1000, 0.1, 120, 2.0, 1, 1e-5)
truncated(100000, 0.002, 250, 0.8, 2000, 1e-6)
for mean, shape in ((1, 1), (10, 1), (10, 0), (10, 0.5), (100, 2), (10, math.inf), (100, math.inf)):
  select(0.01, 1.5, 1000, mean, shape, 1e-5)
select(0.0682, 8.0, 2000, 20, 1, 1e-6)
discrete(10.0, 1, 100, 1e-5)
discrete(2.0, 1, 10, 1e-5)
discrete(7.0, 5, 3, 1e-6)
discrete(0.6, 1, 2, 1e-4)
sampled_laplace(0.01, 1.0, 500, 1e-5)
sampled_laplace(0.1, 4.0, 200, 1e-6)
sampled_laplace(0.5, 2.0, 5, 1e-5)
print(json.dumps(out, indent=1))
