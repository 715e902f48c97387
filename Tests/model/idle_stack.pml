/* How a connection goes from one caller to the next: the word of the idle stack, the pool's lock, the queue and the futex
 * words, as in IdleStack.swift, Record.swift, Lock.swift, Parking.swift, Exports.swift, Returning.swift and Borrowing.swift.
 * Callers are processes; each access to a word that others may change is a step of its own. What is done under the lock and
 * seen only there is one step.
 *
 * The stack has room for one, so that a second connection displaces the first. Waits have no deadline here. One caller has
 * ROUNDS loans, the others one each.
 *
 * FAULT plants one: 1, the stack is opened beside those who wait; 2, a put that displaces does not look again whether the
 * stack is shut when it has the lock; 3, who waits is woken before its word has advanced; 4, a pop does not see what came
 * between; 5, recalling forgets what lay on the stack. */

#ifndef CONNECTIONS
#define CONNECTIONS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef FAULT
#define FAULT 0
#endif
#define CALLERS 3
#define SHUT 128
#define NONE 7

/* A set of connections is a byte with their bits. */
byte stack = SHUT; /* the word of IdleStack */
byte idle; /* the state machine's */
byte lock_word; /* 0 free, 1 held, 2 held and somebody may sleep on it */
byte lock_sleepers;
byte queue[CALLERS]; /* those who wait, the oldest first */
byte waiting;
byte spot[CALLERS]; /* the futex word of each caller's ticket */
bool is_asleep[CALLERS]; /* on its spot */
byte grant[CALLERS]; /* what its ticket was granted */
byte through; /* callers that have ended */
byte inside; /* callers that are on their way through get or put */

/* What must hold, not what the pool knows. */
byte owner[2];

#define BIT(n) (1 << (n))
#define LOWEST(set) (((set) & 1) -> 0 : 1)
#define HAS(set) ((set) != 0 && !((set) & SHUT))

inline lock() {
  atomic {
    if
    :: lock_word == 0 -> lock_word = 1; old = 0
    :: else -> old = 1
    fi
  };
  do
  :: old == 0 -> break
  :: else ->
    atomic { old = lock_word; lock_word = 2 };
    if
    :: old != 0 ->
      atomic {
        if
        :: lock_word == 2 -> lock_sleepers = lock_sleepers | BIT(me)
        :: else
        fi
      };
      !(lock_sleepers & BIT(me))
    :: else
    fi
  od
}

inline unlock() {
  atomic { old = lock_word; lock_word = 0 };
  if
  :: old == 2 ->
    atomic {
      if
      :: lock_sleepers & BIT(0) -> lock_sleepers = lock_sleepers & ~BIT(0)
      :: lock_sleepers & BIT(1) -> lock_sleepers = lock_sleepers & ~BIT(1)
      :: lock_sleepers & BIT(2) -> lock_sleepers = lock_sleepers & ~BIT(2)
      :: lock_sleepers == 0
      fi
    }
  :: else
  fi
}

inline enter() {
  lock();
  atomic {
    if
    :: !(stack & SHUT) && FAULT != 5 -> idle = idle | stack
    :: else
    fi;
    stack = SHUT
  }
}

inline leave() {
  if
  :: (waiting == 0 || FAULT == 1) && (stack & SHUT) -> stack = 0
  :: else
  fi;
  unlock()
}

/* The state machine's tryAcquire: `mine` is NONE when there is nothing for those who do not wait. */
inline take_idle() {
  d_step {
    if
    :: idle != 0 && waiting == 0 -> mine = LOWEST(idle); idle = idle & ~BIT(mine)
    :: else -> mine = NONE
    fi
  }
}

inline get() {
  atomic { inside++; seen = stack };
  mine = NONE;
  do
  :: mine == NONE && HAS(seen) ->
    atomic {
      if
      :: stack == seen || FAULT == 4 -> mine = LOWEST(seen); stack = seen & ~BIT(mine)
      :: else -> seen = stack
      fi
    }
  :: else -> break
  od;
  if
  :: mine == NONE ->
    atomic {
      if
      :: lock_word == 0 -> lock_word = 1; old = 0
      :: else -> old = 1
      fi
    };
    if
    :: old == 0 -> take_idle(); unlock()
    :: else
    fi
  :: else
  fi;
  if
  :: mine == NONE -> get_slowly()
  :: else
  fi;
  atomic {
    assert(owner[mine] == NONE);
    owner[mine] = me;
    inside--
  }
}

inline get_slowly() {
  enter();
  take_idle();
  if
  :: mine != NONE -> leave()
  :: else ->
    d_step { queue[waiting] = me; waiting++; seen = spot[me] };
    leave();
    do
    :: mine == NONE ->
      atomic {
        if
        :: spot[me] == seen -> is_asleep[me] = true; inside--
        :: else
        fi
      };
      !is_asleep[me];
      enter();
      d_step { mine = grant[me]; grant[me] = NONE; seen = spot[me] };
      leave()
    :: else -> break
    od
  fi
}

inline wake(who) {
  atomic {
    if
    :: is_asleep[who] -> is_asleep[who] = false; inside++
    :: else
    fi
  }
}

inline put() {
  atomic {
    inside++;
    assert(owner[mine] == me);
    owner[mine] = NONE;
    seen = stack
  };
  do
  :: mine != NONE && seen == 0 ->
    atomic {
      if
      :: stack == seen -> stack = BIT(mine); mine = NONE
      :: else -> seen = stack
      fi
    }
  :: else -> break
  od;
  if
  :: mine != NONE && !(stack & SHUT) -> put_displacing()
  :: else
  fi;
  if
  :: mine != NONE -> put_slowly()
  :: else
  fi;
  inside--
}

inline put_displacing() {
  lock();
  seen = stack;
  do
  :: mine != NONE && (!(seen & SHUT) || FAULT == 2) ->
    atomic {
      if
      :: stack == seen -> stack = BIT(mine); mine = NONE; idle = idle | (seen & ~SHUT)
      :: else -> seen = stack
      fi
    }
  :: else -> break
  od;
  unlock()
}

inline put_slowly() {
  enter();
  woken = NONE;
  d_step {
    if
    :: waiting > 0 ->
      woken = queue[0];
      waiting--;
      queue[0] = queue[1];
      queue[1] = queue[2];
      queue[2] = 0;
      grant[woken] = mine
    :: else -> idle = idle | BIT(mine)
    fi;
    mine = NONE
  };
  if
  :: woken != NONE && FAULT != 3 -> spot[woken]++; leave(); wake(woken)
  :: woken != NONE && FAULT == 3 -> wake(woken); spot[woken]++; leave()
  :: else -> leave()
  fi
}

proctype caller(byte me) {
  byte old, seen, mine = NONE, woken, round;
  do
  :: round < ROUNDS && (me == 0 || round == 0) -> get(); put(); round++
  :: else -> break
  od;
  through++
}

/* Whenever a connection lies there and nobody is on his way, nobody sleeps. */
proctype watcher() {
end:
  atomic {
    inside == 0 && (idle != 0 || HAS(stack)) && (is_asleep[0] || is_asleep[1] || is_asleep[2]) -> assert(false)
  }
}

init {
  atomic {
    idle = BIT(CONNECTIONS) - 1;
    stack = 0;
    owner[0] = NONE;
    owner[1] = NONE;
    grant[0] = NONE;
    grant[1] = NONE;
    grant[2] = NONE;
    run caller(0);
    run caller(1);
    run caller(2);
    run watcher()
  };
  /* All came to an end: nothing is lost and nobody is left behind. */
  through == CALLERS;
  assert(waiting == 0 && lock_word == 0);
  assert((idle | (stack & ~SHUT)) == BIT(CONNECTIONS) - 1)
}
