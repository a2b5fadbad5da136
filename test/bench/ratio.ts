/** Ratio is the geometric mean of ratios, with its 95 % interval. */
export interface Ratio {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** Student's t for 95 %, two-sided, by degrees of freedom from 1; above the table it falls by under 0.1 to 1.96. */
const T = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086,
  2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** interval of at least two ratios, all above 0: their logarithms are taken as normal, so that 2 and 1/2 weigh the same. */
export function interval(ratios: readonly number[]): Ratio {
  const n = ratios.length;
  if (n < 2) throw new RangeError(`an interval needs two ratios or more, not ${n}`);
  const logs = ratios.map(Math.log);
  const mean = logs.reduce((sum, log) => sum + log, 0) / n;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (n - 1);
  const half = (T[n - 2] ?? T.at(-1)!) * Math.sqrt(variance / n);
  return { mean: Math.exp(mean), low: Math.exp(mean - half), high: Math.exp(mean + half) };
}
