/* A password of one SCRAM round, and the secret of a role that has it: a usual one takes 4096 rounds, with four allocations
 * each, which would drown all others. */
#ifndef ONE_ROUND_H
#define ONE_ROUND_H

#define ONE_ROUND_PASSWORD "abi"
#define ONE_ROUND_SECRET                      \
  "SCRAM-SHA-256$1:MDEyMzQ1Njc4OWFiY2RlZg==$" \
  "M0zUqGNPntO9PE8sjFY+t3bpWv8MYGatwLOJr07tl0k=:alCevzZS1GwYb9XZyGGBnWPNXhoH6tsLu5Md1CWtP1o="

#endif
