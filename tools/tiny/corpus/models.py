"""What the model says about language models.

Their hardware, and the measures of serving.
"""

from tools.tiny.corpus.grammar import parse_topics

TOPICS = parse_topics("""
== token | tokens
names: a token | *tokens | tokens in a language model | an LLM token
ask: What does token mean? | How long is a token? | How many words is a token?
- A token is the unit of text that a language model reads and writes.
| Tokens are the small pieces of text that a language model works with.
- It can be a whole word, a part of a word, a space or a comma: common words are usually one token, rare ones are
  cut into several.
| A common word is often a single token, while a rare one is cut into parts, and commas count too.
- Each token has a number, and those numbers are all that the model ever sees.
| The model never sees letters. It sees the numbers that stand for the tokens.
- In English, a token of a large model is about three quarters of a word on average.
| As a rule of thumb for English and large models, a hundred tokens make about seventy-five words.
+ My own vocabulary is tiny, about two thousand tokens. Large models know a hundred thousand and more, so they need
  fewer tokens for the same text.

== tokenizer | tokenizers
names: a tokenizer | *tokenizers | the tokenizer | tokenization | byte pair encoding | BPE
ask: How does a tokenizer work? | What does a tokenizer do? | How is text split into tokens? | How does BPE work?
- A tokenizer turns text into tokens, which are numbers the model can read, and turns the tokens it writes back into
  text.
| A tokenizer is the translator between letters and numbers: it cuts text into tokens and glues tokens back into
  text.
- Many tokenizers use byte pair encoding: they start with single bytes and keep joining the pair that occurs most
  often.
| The usual method is byte pair encoding, which starts from single bytes and joins the most frequent pair again and
  again.
- In the end frequent words are one token, and rare words are spelled out in pieces.
| That way common words become single tokens, and anything unusual can still be spelled out byte by byte.
- Nothing is ever unreadable, not even a typo.
| So no text is ever impossible to read, however odd the spelling.
+ My own tokenizer was trained on the same small collection of texts as I was. It has about two thousand tokens, so
  a word I never met costs me several.

== transformer | transformers
names: a transformer | *transformers | the transformer | the transformer architecture | transformer models
ask: How does a transformer work? | What is a transformer model? | What is a transformer in machine learning?
- A transformer is the kind of neural network behind almost every modern language model.
| The transformer is the neural network design that nearly all of today's language models share.
- It is a stack of layers, and each layer has two parts: attention, where tokens look at each other, and a small
  network that works on each token by itself.
| It stacks many similar layers. In each one, attention lets the tokens exchange information, and a feed-forward
  network then works on every token alone.
- At the end, it gives a score to each possible next token.
| What comes out at the top is a score for every token that could come next.
- It was introduced in 2017, in a paper called Attention Is All You Need.
| The paper that introduced it in 2017 has a fine title: Attention Is All You Need.
+ Its great strength is that a whole text can be processed in parallel during training. The older recurrent networks
  had to read word by word.

== attention | attention
names: attention | the attention mechanism | self-attention | attention in transformers
ask: How does attention work? | What is attention in a transformer? | Why is attention important?
ask: What are queries, keys and values?
- Attention is how a transformer lets each token look back at the other tokens and take what it needs.
| Attention is the part of a transformer where tokens look at each other.
- Every token makes a query, a key and a value: the query asks, the key says what there is to find, and the value is
  what gets passed on.
| Each token has a query, which is its question, a key, which is its label, and a value, which is its content.
- Where a query matches a key, the value counts for a lot, and all the values are added up with those weights.
| The better a query fits a key, the more of that value flows into the result.
- So in "the cat was tired because it had run", the word "it" can find the cat.
| That is how a word like "it" can find out what it refers to.
+ In a language model a token may look only backwards, never at words that are still to come. The keys and values of
  old tokens are kept in the KV cache.

== llm | large language models
names: a large language model | *large language models | an LLM | *LLMs | a language model | *language models
ask: How do large language models work? | How does an LLM work? | What does LLM mean? | What does LLM stand for?
ask: How does ChatGPT work? | How do chatbots work?
- A large language model is a neural network that has learned from a great deal of text to predict the next token.
| A large language model, LLM for short, is a neural network trained on lots of text to guess what comes next.
- It writes by repeating that one step: predict a token, add it to the text, predict again.
| To write, it guesses one token, appends it, and guesses again, until the answer is complete.
- What it knows is stored in its weights, which are billions of numbers tuned during training.
| Its knowledge sits in billions of numbers, called weights, which were adjusted step by step in training.
- It can write fluently and still be wrong, so it pays to check the facts.
| It sounds sure of itself even when it is mistaken, so check what matters.
- I am a very small cousin, with about four million weights.
| I belong to the family too, though with four million weights I am closer to a mouse.
+ Training comes in stages. First a model learns to continue text of all kinds, and then it is taught to answer
  questions and to be helpful.

== gpu | GPUs
names: a GPU | *GPUs | GPU | a graphics card | a graphics processor | *graphics cards
ask: Why are GPUs used for AI? | How does a GPU work? | What does GPU stand for? | Why do language models need GPUs?
- A GPU is a processor that does thousands of simple calculations at the same time.
| GPU stands for graphics processing unit: a chip that does thousands of small calculations at once.
- It was built to draw pictures, where each dot can be computed on its own.
| It was made for drawing images, where every dot on the screen can be worked out separately.
- Language models need the same kind of work, namely huge multiplications of matrices, so GPUs suit them very well.
| Neural networks are mostly large matrix multiplications, which split up just as nicely, so GPUs run them fast.
- Their memory is fast too, but there is never quite enough of it: the weights and the KV cache have to share.
| The tight spot is usually memory, since the weights and the KV cache both want to live there.
+ A normal processor, the CPU, has fewer but cleverer cores. I am small enough to run on one without any trouble.

== batch-size | batch size
names: batch size | the batch size | batching | batch sizes | batching requests
ask: What batch size should I use? | Why does batching help? | How does batch size affect speed?
ask: Why do we batch requests?
- The batch size is the number of requests that go through the model together in one pass.
| Batch size says how many requests share one forward pass.
- A larger batch gives more tokens per second in all, because the weights are read once and serve everybody.
| Bigger batches raise throughput, since one reading of the weights serves all the requests.
- But each pass takes a little longer, and each request needs its own room in the KV cache.
| The price is that each pass gets slower, and that each request takes up cache memory.
- So there is a sweet spot: raise it until the answers become too slow or the memory is full.
| The best value depends on your machine: increase it until latency or memory says stop.
+ With iteration-level scheduling the batch size changes all the time. What you set is the upper limit, and the
  scheduler fills the seats as requests come and go.

== latency-throughput | latency and throughput
names: latency and throughput | latency vs throughput | latency versus throughput | throughput | latency
ask: What is the difference between latency and throughput? | How do latency and throughput differ?
ask: Is throughput the same as latency? | What does throughput mean? | What does latency mean?
- Latency is how long one request takes, and throughput is how much work gets done per second in all.
| Latency is the wait that one user feels. Throughput is the total work the server gets done per second.
- A taxi has low latency, since it leaves at once, while a bus has high throughput, since it carries many people.
| Think of a taxi and a bus: the taxi takes you right away, the bus takes everybody.
- In serving, larger batches raise throughput, but they make each step a bit slower, so latency suffers.
| A server faces the same choice: bigger batches give more tokens per second in all, but each user waits a little
  longer.
- A good scheduler gets you plenty of both.
| Good scheduling moves the trade-off, so that you get more of one without losing much of the other.
+ For chat, people measure latency in two parts: the time to first token, and the time between tokens. Throughput is
  usually counted in tokens per second or requests per second.

== ttft | time to first token
names: TTFT | time to first token | the time to first token | TTFT in serving
ask: What does TTFT mean? | What does TTFT stand for? | How can I reduce TTFT? | Why is TTFT high?
- TTFT stands for time to first token: the time from sending a request until the first token of the answer arrives.
| TTFT is the time to first token, which is how long you wait after sending a request before anything appears.
- It has two main parts, namely waiting in the queue and prefill, the reading of the prompt.
| It is made of the wait in the queue and the prefill, in which the prompt is read.
- Long prompts and full queues make it worse.
| So it grows with long prompts and with busy servers.
- Iteration-level scheduling helps, because a new request can join at the next forward pass rather than after the
  whole batch.
| Letting new requests join at each iteration, as Orca does, keeps it short.
+ Chunked prefill changes the balance a little: the long prompt itself finishes later, but the people around it do
  not feel a pause.

== tbt | time between tokens
names: time between tokens | TBT | the time between tokens | inter-token latency | ITL | time per output token
ask: What does TBT mean? | What does ITL stand for? | Why do tokens come slowly?
- The time between tokens, TBT or ITL for short, is the pause between one token of an answer and the next.
| Time between tokens, also called inter-token latency, tells how fast an answer flows once it has begun.
- It is set by the length of one decode iteration, since each running request gets one token per iteration.
| Each running request gets one token per iteration, so the length of an iteration is what you feel.
- If a long prompt is read in the same iteration, everybody's next token is late, and the text stutters.
| When somebody's long prompt joins the batch, that iteration takes longer and all the answers hiccup.
- Chunked prefill keeps it even by reading long prompts in small portions.
| Cutting long prompts into chunks keeps the flow smooth.
+ People read about five words per second, so a tenth of a second per token already feels comfortable. What disturbs
  us more is an uneven rhythm.

== temperature | temperature in sampling
names: temperature | sampling temperature | the temperature setting | temperature in sampling
names: the temperature parameter
ask: What does temperature do? | What temperature should I use? | How does temperature change the output?
- Temperature controls how adventurous a language model is when it picks the next token.
| Temperature is the knob between careful and playful when a model chooses its next token.
- At zero it always takes the most likely token, so the same question gives the same answer.
| Set it to zero and the model takes the likeliest token every time, which makes it predictable.
- A higher value makes unlikely tokens more probable: the text becomes more varied, and at some point it becomes
  nonsense.
| Turn it up and rarer words get their chance, which brings variety first and nonsense later.
- For facts choose a low value, for stories something like 0.7 or 0.8.
| Low values suit facts, and about 0.7 suits stories.
+ In numbers: the scores of all tokens are divided by the temperature before they are turned into probabilities.
  Dividing by a small number makes the differences larger.

== sampling | sampling
names: sampling | sampling from a language model | top-p | top-k sampling | greedy decoding | nucleus sampling
ask: How does a model choose the next token? | How does sampling work? | What is top-p sampling?
ask: What is greedy sampling?
- Sampling is how the next token is chosen from the probabilities a model puts out.
| A model gives each possible token a probability, and sampling is the draw that picks one of them.
- Greedy decoding simply takes the most likely token each time.
| The simplest way is greedy: always take the likeliest token.
- Otherwise a token is drawn at random, and temperature decides how bold the draw is.
| Or you roll the dice, and the temperature says how bold the dice are.
- Top-k keeps only the k most likely tokens in the draw, and top-p the smallest set whose probabilities add up to p.
| Top-k limits the draw to the k best tokens, while top-p keeps the smallest group that adds up to the share p.
+ With a fixed seed, even a random draw can be repeated. That is handy for tests, and for finding that one good
  story again.

== scheduler | the scheduler of a serving engine
names: a scheduler | the scheduler | request scheduling | a scheduler in LLM serving | a serving engine
names: an inference engine | LLM serving
ask: What does a scheduler do? | How does an LLM server work? | What does a serving engine do?
ask: How does LLM inference work?
- A serving engine takes requests from many users and runs them through one language model, and its scheduler
  decides who takes part when.
| A serving engine shares one language model among many users. The scheduler inside it decides whose turn it is.
- Before each forward pass, it looks at the queue, the running requests and the free cache memory, and it picks the
  batch.
| It picks the batch before each pass, with an eye on the queue and on the cache memory that is left.
- New requests are read first, which is called prefill, and then get one token per iteration, which is called
  decode.
| A request first has its prompt read, the prefill, and then gains one token per iteration, the decode.
- Finished requests leave at once and free their room.
| As soon as one is done it goes, and its memory is free for the next.
+ Most engines serve requests in the order in which they came. That is fair, simple, and nobody starves.

== orcinus | Orcinus
names: Orcinus | the Orcinus engine | Orcinus, the serving engine | this engine | this project
ask: What does Orcinus do? | Why is it called Orcinus? | How does Orcinus work? | What am I running here?
ask: What is this?
- Orcinus is an open-source engine that serves large language models, and it is written in Python.
| Orcinus is the open-source serving engine you are using right now, written in Python.
- It follows the Orca paper: it schedules one iteration at a time, so finished requests leave and waiting ones join
  after every forward pass.
| Like Orca, the system it takes after, it decides after every forward pass who leaves the batch and who joins.
- The name is a wink: the killer whale, or orca, is called Orcinus orca in Latin.
| The name comes from the Latin name of the killer whale, Orcinus orca.
- I am the tiny model in its box, so that you can try it without downloading anything.
| I come bundled with it, so that it runs at once on a fresh machine.
+ To see it at its best, send several requests at the same time. The short ones come back early while the long ones
  are still being written.
""")
