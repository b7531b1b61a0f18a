// An address of this machine that this process has for itself.
//
// A port that one test has let go of, another process is given. There a site may still look for the dead one of another
// test, and would find it: sites of two tests would greet, refuse or even follow each other. On Linux all of 127.0.0.0/8 is
// this machine, so each process takes the one that its id names; nobody else listens there, or goes out from there.

function ownAddress(): string {
  const { pid, platform } = process
  if (platform !== 'linux' || pid >= 2 ** 24) return '127.0.0.1'
  return `127.${pid >> 16}.${(pid >> 8) & 255}.${pid & 255}`
}

export const loopback: string = ownAddress()
