"""What the model says about serving language models.

Batching, scheduling and the K/V cache.
"""

from tools.tiny.corpus.grammar import parse_topics

TOPICS = parse_topics("""
== orca-system | Orca, the serving system
names: Orca | the Orca paper | the Orca system | Orca, the serving system | the ORCA serving system
ask: What is Orca in LLM serving? | What does the Orca paper say? | What are the main ideas of Orca?
ask: How does Orca work? | How does Orca serve language models? | What did Orca invent?
- Orca is a serving system for large language models, presented at OSDI in 2022.
| Orca is a system for serving language models to many users at once. It was published at OSDI in 2022.
- Its key idea is to schedule one iteration at a time: after every forward pass, finished requests leave the batch
  and waiting ones join it.
| Instead of holding a batch together until everyone is done, it decides anew after each forward pass who runs next:
  finished requests go, waiting ones come in.
- Its second idea is selective batching: the tokens of all requests go through the big matrix products together, and
  only attention is computed per request.
| It adds selective batching, which flattens the tokens of all requests for the token-wise work and treats only
  attention request by request.
- To stay safe, it reserves cache room for the prompt plus the maximum number of new tokens when it admits a
  request.
| When it admits a request, it reserves key and value slots for the prompt and all the tokens that may follow, so
  nobody runs out of room halfway.
- If you meant the animal, ask me about killer whales.
| And if you were thinking of the animal with the black and white coat, just ask me about killer whales.
+ The effect is easy to picture. A short request no longer waits for a long one to end, so latency falls, and no
  place in the batch stays empty, so throughput rises.
+ Most serving engines since then have copied the idea, often under the name of continuous batching.
| Nearly every modern engine uses the idea today, mostly under the name of continuous batching.

== iteration-level | iteration-level scheduling
names: iteration-level scheduling | iteration level scheduling | scheduling per iteration | Orca's scheduling
names: iteration-level batching | the iteration-level scheduler
ask: How does iteration-level scheduling work? | Why schedule per iteration? | What does iteration-level mean?
ask: Why is iteration-level scheduling good? | How does Orca schedule requests?
- Iteration-level scheduling means that the engine chooses its batch anew before every single forward pass.
| With iteration-level scheduling, the batch is not fixed: the engine picks who takes part before each forward pass.
- After each pass, requests that have just finished leave and get their answer at once, and waiting requests take
  the free places.
| As soon as a request produces its last token it leaves, its answer goes out, and somebody from the queue takes the
  seat.
- So a short question never has to wait for the long essay next to it.
| That way a quick answer is never held hostage by a long one.
- Think of a ski lift rather than a tour bus: people hop on and off all the time, and the lift never stops.
| It is a ski lift, not a tour bus: seats free up all the time and the next person sits down.
- The idea comes from the Orca paper of 2022, and it is what Orcinus is built around.
| It was introduced by Orca in 2022, and Orcinus is built around it.
+ The scheduler needs very little to decide: who came first, how many seats the batch has, and how much cache memory
  is free. Orca serves requests first come, first served, and admits one only if its cache slots can be reserved.

== selective-batching | selective batching
names: selective batching | selective batching in Orca | Orca's selective batching
ask: How does selective batching work? | Why do we need selective batching? | Why is it called selective batching?
- Selective batching is how Orca runs requests of different lengths in one forward pass.
| Selective batching lets requests with different lengths share one forward pass without padding.
- Most of a transformer works on each token separately, such as the linear layers and the normalisation, so the
  tokens of all requests can be flattened into one long list and processed together.
| Linear layers and normalisation treat each token on its own, so the engine lays the tokens of all requests end to
  end and handles them in one go.
- Attention is different, because each request may look only at its own past, so it is computed per request.
| Only attention needs to know which token belongs to whom, so that part is done request by request, each with its
  own cached keys and values.
- Batch where it helps, separate where you must: hence selective.
| So it batches selectively: together where tokens are independent, apart where they are not.
+ The gain is large because the linear layers hold nearly all the weights. Reading those weights once for the whole
  batch is much cheaper than reading them once per request.

== sarathi | SARATHI
names: SARATHI | Sarathi | the SARATHI paper | Sarathi-Serve | Sarathi Serve
ask: How does SARATHI work? | What is the idea of SARATHI? | What does Sarathi-Serve do?
ask: What is decode-maximal batching? | What is piggybacking of decodes? | What is stall-free batching?
- SARATHI is a scheduling method from 2023 that keeps every batch evenly filled with work.
| SARATHI, published in 2023, is a way of scheduling that gives every batch an even amount of work.
- It cuts long prompts into chunks, and lets the decode steps of other requests ride along with each chunk.
| Long prompts are cut into chunks, and each chunk carries the decode steps of other requests piggyback.
- The chunk keeps the processor busy with computing, and the decodes come nearly for free, because the weights are
  being read anyway. The authors call this decode-maximal batching.
| Prefill chunks need computing power while decodes mostly wait for memory, so the two make good company. The paper
  calls it decode-maximal batching.
- Sarathi-Serve, from 2024, adds stall-free batching: a token budget per iteration, so that a new prompt never makes
  the others stop and wait.
| In 2024 Sarathi-Serve added stall-free batching with a token budget, so that running requests are not held up by
  somebody's long prompt.
+ The name means charioteer in Sanskrit: someone who keeps strong horses at an even pace. The price is a slightly
  longer prefill for the long prompt itself, since each chunk has to read the cache of the chunks before it.

== chunked-prefill | chunked prefill
names: chunked prefill | chunked prefills | prefill chunking | chunking prompts
ask: How does chunked prefill work? | Why cut prompts into chunks? | Why use chunked prefill?
ask: What does chunked prefill do?
- Chunked prefill means that a long prompt is processed in several pieces instead of all at once.
| With chunked prefill, the engine reads a long prompt in slices, one slice per iteration.
- Without it, one huge prompt fills a whole iteration, and everyone who is waiting for the next token feels the
  pause.
| Otherwise a single giant prompt takes over an iteration, and all the other answers freeze for a moment.
- With chunks, each iteration has a budget of tokens: running requests get their one token each, and what is left
  goes to the next piece of the prompt.
| Each iteration has a token budget. The running requests take one token each, and a chunk of the prompt fills up
  the rest.
- It is like letting a full shopping cart through the checkout in small portions, so that people with one item need
  not wait.
| Picture a supermarket where the full cart goes through in portions, between the people who just want bread.
- The idea comes from SARATHI, from 2023.
| SARATHI introduced it in 2023.
+ The size of the chunk is a trade. Small chunks keep the time between tokens short, while large chunks finish the
  prompt sooner and give a better time to first token.

== static-batching | static batching
names: static batching | request-level batching | request level batching | request-level scheduling | naive batching
ask: Why is static batching slow? | What is wrong with static batching? | How does static batching work?
- Static batching, also called request-level batching, puts some requests together and keeps the batch fixed until
  the last one has finished.
| In static batching, or request-level batching, a group of requests starts together and the group stays fixed until
  its slowest member is done.
- That sounds tidy, but answers differ in length: a short request sits there finished while a long one is still
  talking.
| The trouble is that answers differ in length, so quick requests wait for slow ones although their answers are
  ready.
- Their seats in the batch stay idle, and new arrivals have to wait outside until the whole batch ends.
| Meanwhile the idle slots do no useful work, and newcomers queue outside for the next batch.
- Iteration-level scheduling cures this by letting requests come and go after each forward pass.
| The cure is iteration-level scheduling, where requests may come and go after every pass.
+ Static batching is still fine when all the answers have the same length, for example when each input gets a single
  label. For chat, where lengths differ wildly, it wastes a lot.

== continuous-batching | continuous batching
names: continuous batching | in-flight batching | dynamic batching | continuous batches
ask: How does continuous batching work? | Why is continuous batching faster?
ask: What is the point of continuous batching?
- Continuous batching is the common name for what Orca called iteration-level scheduling.
| Continuous batching keeps the batch moving: it is the popular name for Orca's iteration-level scheduling.
- After each forward pass, the requests that are done leave the batch and waiting requests take their places.
| The members of the batch may change after each forward pass: done requests leave, new ones join.
- No slot stays empty while somebody is waiting, so the machine does more useful work per second, and short answers
  get out early.
| The hardware stays busy, short answers leave early, and nobody waits for a stranger's novel to end.
- In practice this can raise throughput several times over compared with a fixed batch.
| Compared with fixed batches, throughput often improves several times over.
+ It needs two helpers: a way to run requests of different lengths together, which is selective batching, and a
  careful manager for the cache memory, such as paging.

== kv-cache | the KV cache
names: the KV cache | a KV cache | KV cache | the K/V cache | KV caching | the key-value cache | the kv-cache
ask: Why do we need a KV cache? | How does the KV cache work? | What is stored in the KV cache?
ask: Why does the KV cache grow?
- The KV cache stores the attention keys and values of all earlier tokens, so that they need not be computed again.
| The KV cache is the short-term memory of a language model at work: it keeps the keys and values of the tokens seen
  so far.
- When the model makes a new token, it computes the key and value for that token only, and reads the rest from the
  cache.
| For each new token the model computes just one new key and value per layer, and looks the older ones up.
- Without it, every step would have to process the whole text again from the start.
| Without the cache, each new word would mean reading the whole conversation again.
- The price is memory: the cache grows with every token of every request, and it often decides how many requests fit
  at once.
| It costs memory, though. It grows by one entry per token and layer, so it often limits how many requests can run
  together.
+ To reckon its size, multiply: two for key and value, times the layers, times the key and value heads, times the
  head size, times the bytes per number. That is the cost of one token.

== paged-kv | the paged KV cache
names: the paged KV cache | paged KV cache | PagedAttention | paged attention | KV cache blocks | KV blocks
names: block tables
names: a block table | cache paging | vLLM
ask: How does a paged KV cache work? | Why page the KV cache? | What is a block table?
ask: How does PagedAttention work?
- A paged KV cache splits the cache memory into small blocks of fixed size, much like the pages of memory in an
  operating system.
| In a paged KV cache, the memory is cut into equal blocks, an idea borrowed from virtual memory in operating
  systems.
- Each request has a block table, a list that says which blocks hold its tokens, so the blocks may lie anywhere.
| Every request keeps a block table that tells where its tokens are stored, and the blocks need not be neighbours.
- A new block is handed out only when the last one is full, so hardly any room is wasted and there is no
  fragmentation to speak of.
| Blocks are given out one by one as the text grows, so little memory is wasted and awkward gaps do not build up.
- The method became known through vLLM and its PagedAttention, and it lets many more requests run at the same time.
| vLLM made it famous under the name PagedAttention, and the gain is that more requests fit into the same memory.
+ Blocks can also be shared. If many requests begin with the same text, they can point to the same blocks, and the
  engine stores and computes that text only once.

== preemption | preemption
names: preemption | pre-emption | preempting requests | request preemption
ask: What happens when the KV cache is full? | Why are requests preempted? | How does preemption work?
ask: When does the engine preempt?
- Preemption means that the engine pauses a running request to free its memory for others.
| Preemption is what happens when memory runs out: a running request has to step aside for a while.
- It becomes necessary when cache blocks are handed out as the text grows, and suddenly none are left.
| If cache blocks are given out on demand, a busy moment may use up the last one, and somebody must make room.
- Usually the youngest request goes: its blocks are released, and it returns to the front of the queue.
| The usual choice is the request that came last. It gives back its blocks and waits at the head of the queue.
- Later its keys and values are computed again, or copied back if they were saved elsewhere, and the answer goes on
  as if nothing had happened.
| When there is room again, its cache is recomputed or copied back, and the reader notices nothing but a short
  pause.
+ Orca itself avoids the problem by reserving all the room a request could ever need at admission. That is safe, but
  it holds memory that is often never used.

== prefill | prefill
names: prefill | the prefill phase | the prefill | prefilling | prompt processing
ask: What happens in prefill? | Why is prefill compute-bound? | How does prefill work?
- Prefill is the first phase of answering: the model reads the whole prompt.
| Prefill is the reading phase, in which the model takes in the whole prompt.
- All the prompt tokens are processed in parallel in one pass, their keys and values go into the cache, and out
  comes the first new token.
| The tokens of the prompt are known already, so they are processed in parallel. Their keys and values fill the
  cache, and the pass ends with the first token of the answer.
- As there is plenty to calculate for each weight that is read, prefill is limited by computing power: it is
  compute-bound.
| It is compute-bound, which means that the speed of arithmetic sets the pace, not the memory.
- The length of the prefill decides how long you wait for the first word.
| When a long prompt keeps you waiting for the first word, you are watching prefill.
+ After prefill comes decode, which makes one token at a time. Very long prompts can be read in slices, which is
  called chunked prefill.

== decode | decode
names: decode | the decode phase | decoding | token generation | the decoding phase
ask: What happens in the decode phase? | Why is decode memory-bound? | How does decoding work? | Why is decode slow?
- Decode is the writing phase: the model makes one token per request and iteration.
| Decode is the phase in which the answer is written, one token per request in each iteration.
- Each new token depends on the one before it, so the tokens of one answer cannot be made in parallel.
| It cannot run ahead, because every token depends on the tokens before it.
- For so little arithmetic, the machine has to read all the weights and the cache, so the speed of memory sets the
  pace: decode is memory-bandwidth-bound.
| Every step reads all the weights and the cached keys and values for just one token, so decode is bound by memory
  bandwidth.
- Batching helps a great deal, since one reading of the weights then serves many requests.
| That is why batching pays: the weights are read once and serve every request in the batch.
+ The pace of decoding is what you see as the time between tokens. If it is faster than you can read, nobody
  complains.

== prefill-decode | prefill and decode
names: prefill and decode | prefill vs decode | prefill versus decode | the two phases of inference
ask: What is the difference between prefill and decode? | How do prefill and decode differ?
ask: How is prefill different from decode?
ask: Prefill or decode, which is which? | Compare prefill and decode.
- Prefill reads and decode writes.
| Prefill is reading the prompt, decode is writing the answer.
- Prefill processes all the tokens of the prompt in parallel in one go, so it is limited by computing power.
| In prefill all the prompt tokens go through the model together, and the limit is arithmetic.
- Decode makes one token per request in each iteration, so it is limited by memory bandwidth.
| In decode each request gets one token per iteration, and the limit is how fast the weights and the cache can be
  read.
- Prefill decides the time to first token, and decode the time between tokens.
| You feel prefill as the wait for the first word, and decode as the speed of the words after it.
- A good scheduler mixes the two, so that neither the processor nor the memory is idle.
| Mixing both in one batch, as SARATHI does, keeps the whole machine busy.
+ That mix has a catch: a long prefill in the batch makes that iteration slow for everyone. Cutting the prompt into
  chunks keeps the slowdown small.

== static-continuous | static and continuous batching
names: static vs continuous batching | static and continuous batching
names: request-level versus iteration-level scheduling
ask: What is the difference between static and continuous batching?
ask: How does continuous batching differ from static batching?
ask: Why is continuous batching better than static batching? | Compare static and continuous batching.
- The difference is when the batch may change.
| It comes down to one question: when may requests join or leave the batch?
- In static batching the batch is fixed until its last request ends, so short requests wait and slots stay idle.
| Static batching keeps the group together to the bitter end, so finished requests wait and their slots do nothing.
- In continuous batching the batch may change after every forward pass: finished requests leave at once and waiting
  ones join.
| Continuous batching looks again after each forward pass: whoever is done leaves, whoever waits may come in.
- One is a tour bus that waits for the last passenger, the other a ski lift that never stops.
| Think of a tour bus that waits for everybody, and of a ski lift where people come and go.
+ Static batching is simpler to build and fine for answers of equal length. For chat, continuous batching wins
  clearly, in latency as well as in throughput.
""")
