"""What the model says about everyday life.

Sleep, learning, moving, music, books and games.
"""

from tools.tiny.corpus.grammar import parse_topics

TOPICS = parse_topics("""
== sleep | better sleep
names: sleep | sleep tips | better sleep | a good night's sleep | falling asleep
ask: How can I sleep better? | I cannot sleep. | Why do we sleep? | How many hours should I sleep?
ask: Can you give me tips for sleeping? | I'm tired.
ask: I can't sleep. | What helps me fall asleep? | I am so tired. | Why do we dream?
- Most adults feel well with seven to nine hours of sleep, in which body and memory are tidied up.
| Sleep is when the brain sorts the day and the body repairs itself, and most adults need seven to nine hours.
- The best trick is a dull one: go to bed and get up at the same time every day.
| What helps most is a regular rhythm, even at the weekend.
- Keep the room cool, dark and quiet, and put the screen away for the last half hour.
| A cool and dark room helps, and so does a book instead of a screen in the last half hour.
- No coffee after lunch, and a short walk in daylight does wonders.
| Have your last coffee at midday, and get some daylight and a walk.
- If you lie awake, get up, read something gentle in soft light, and return when you are sleepy.
| If sleep will not come, do not wrestle with it. Get up, read a little, and try again later.
+ A short nap of twenty minutes in the early afternoon is refreshing. A longer one may steal from the night. If bad
  nights go on for weeks, do talk to a doctor.

== learning | learning
names: learning | learning tips | studying | study tips | how to learn | remembering things
ask: How can I learn better? | How do I learn faster? | How do I study for an exam? | How can I remember things?
ask: Give me tips for learning. | How do I learn something new?
- Learn in small portions and often, for half an hour a day beats one long Sunday.
| The brain likes small helpings, so half an hour every day does more than a whole day once a month.
- Test yourself: close the book and say it in your own words. What you have to fetch from memory stays there.
| Close the book and try to recall what you read. It feels harder than reading it again, and it works far better.
- Come back to it after a day, after a week and after a month.
| Repeat it with growing gaps, such as a day, a week and a month.
- Explain it to somebody, even to a patient cat, and you will find the holes.
| Teach it to a friend or to a plant, because explaining shows you what is still missing.
- Then sleep on it. That is when it settles.
| And sleep enough, since memory is made at night.
+ Mix your subjects rather than doing one for hours. It feels less smooth, but you learn to choose the right tool,
  and not only to use it.

== exercise | exercise
names: exercise | a walk | walking | a workout | getting fit | sport | an exercise idea | running
ask: How do I get fit? | How can I start exercising? | Give me an exercise idea. | What exercise can I do at home?
ask: Why is walking healthy? | How do I start running?
- The best exercise is the one you will do again tomorrow, and for most of us that is a walk.
| Start with a brisk walk of twenty minutes, because it needs only shoes and a door.
- Walk so fast that you can still talk but would rather not sing.
| The right pace is when you can talk but no longer sing.
- Walking is good for heart, mood and sleep, and many a good idea has been found on the way.
| It strengthens the heart, lifts the mood and helps you sleep, and it often solves the problem you left on the
  desk.
- At home, try three rounds of ten squats, ten push-ups against the kitchen counter, and thirty seconds of standing
  on one leg.
| On a rainy day, do three rounds at home: ten squats, ten push-ups against the table, and half a minute on each
  leg.
- Begin gently, and add a little every week.
| Go easy at first and add a little each week.
+ Make it hard to skip: put the shoes by the door, and choose a fixed time or a friend. A friend is best, since
  friends do not accept excuses.

== bicycle | bicycles
names: a bicycle | *bicycles | a bike | *bikes | cycling | riding a bike
ask: How does a bicycle work? | Why does a bike stay upright? | Who invented the bicycle? | How do I ride a bike?
ask: How do bicycle gears work?
- A bicycle turns the push of your legs into easy and silent speed.
| The bicycle is the most efficient way of getting about on your own strength.
- The pedals pull a chain, the chain turns the back wheel, and the gears let you trade force for speed.
| Your feet turn the pedals, a chain carries the turning to the back wheel, and gears choose between easy and fast.
- It stays upright because it steers itself a little: when it leans, the front wheel turns to that side and brings
  it back under you.
| It keeps its balance in motion, since the front wheel turns towards the side it leans to and catches the fall.
- Its ancestor was built by Karl von Drais in 1817, without pedals, and the modern form came in the 1880s.
| Karl von Drais built the first two-wheeler in 1817, and by the 1880s it looked much like today's.
- Keep the tyres hard and the chain oiled, and it will serve you for decades.
| All it asks for is air in the tyres and oil on the chain.
+ On the same energy, a cyclist gets about three times as far as a walker. Use a low gear uphill and change down
  before you need to.

== music | music
names: music | listening to music | rhythm and melody | a melody | learning an instrument
ask: Why do we like music? | What is music made of? | How do I learn an instrument? | How does music work?
ask: How do I learn the guitar? | How do I learn the piano?
- Music is sound arranged in time, from rhythm, melody and harmony.
| Music is made of three things: rhythm, which moves, melody, which sings, and harmony, which colours.
- A note is an even vibration of the air, and if it is twice as fast, we hear the same note an octave higher.
| Each note is a steady trembling of the air. Double the speed, and you get the same note one octave up.
- We love it because the brain enjoys guessing what comes next, and being right most of the time, but not always.
| It pleases us because we keep guessing how it goes on, and a good tune surprises us just enough.
- To learn an instrument, practise slowly for fifteen minutes a day, and end with something that you love.
| If you want to play, fifteen slow minutes a day are better than two hours on Sunday, and the last minutes should
  be for fun.
+ Singing in a choir is perhaps the cheapest way to begin. The instrument is included, and the neighbours know the
  tune.

== reading | books and reading
names: reading | *books | a book | good books | reading books | a good book
ask: What should I read? | Can you recommend a book? | How can I read more? | Why should I read books?
ask: Which book should I read? | Recommend me a book.
- A book lets you borrow another mind for a few evenings.
| Reading is the quietest way to travel.
- For wonder, try Alice in Wonderland, for adventure Treasure Island, and for wit and warmth Pride and Prejudice.
| Three that have made many people happy are Pride and Prejudice for wit, Treasure Island for adventure, and Alice
  in Wonderland for wonder.
- And if you like the sea and long sentences, there is Moby-Dick, with more whale than most people need.
| Moby-Dick is for those who like the sea, whales, and chapters about rope.
- To read more, carry a book with you, read ten pages before bed, and drop any book that bores you.
| If you want to read more, keep a book by the bed and allow yourself to stop when one bores you.
- Nobody is counting.
| Life is short, and the library is long.
+ Reading aloud to somebody is a fine evening too. A short story takes about as long as washing up, and is better
  company.

== chess | chess
names: chess | chess in brief | the rules of chess | chess rules | playing chess
ask: How do I play chess? | How do you play chess? | What are the rules of chess? | How does the knight move?
ask: How do I get better at chess?
- Chess is a game for two on sixty-four squares, and you win by attacking the king so that it cannot escape, which
  is called checkmate.
| In chess two players try to checkmate each other, that is, to attack the king so that it has no way out.
- The rook moves straight, the bishop diagonally, the queen does both, and the king goes one step in any direction.
| Rooks go straight, bishops go diagonally, the queen goes either way, and the king takes single steps.
- The knight jumps in the shape of an L, and pawns walk forward but capture diagonally.
| Pawns go forward and capture diagonally, and the knight leaps two squares and one to the side.
- As a beginner, move pawns to the centre, bring out knights and bishops, and castle early.
| Three rules to begin with: take the centre, bring your pieces out, and get your king to safety by castling.
- Before each move, ask what your opponent wants to do.
| And always ask yourself why your opponent made that move.
+ A pawn that reaches the far end becomes a queen, if you wish. It is the only career of this kind in all of board
  games, and it takes six steps.

== happiness | small joys
names: happiness | small joys | being happy | a good mood | cheering up
ask: How can I be happy? | What makes people happy? | How do I cheer up? | What should I do today? | I'm bored.
ask: I am bored.
- Happiness is mostly made of small things that happen often.
| Big luck is rare, so it pays to be good at small joys.
- Call a friend, walk under some trees, cook something simple, or put one drawer in order.
| You might go for a walk, ring somebody you like, or cook something that smells good.
- Doing something kind for another person works surprisingly well, and it works for both.
| A kindness for somebody else is among the surest ways, and it costs little.
- In the evening, write down three things that went well, even if one of them is only soup.
| Before you sleep, think of three good things of the day, and let small ones count.
+ Being outdoors, moving and having company are the three things that help most people most of the time. A walk with
  a friend has all of them.

== stress | a calm moment
names: stress | relaxing | calming down | a breathing exercise | meditation | relaxation
ask: How can I relax? | How do I calm down? | I am stressed. | I'm stressed. | How do I deal with stress?
ask: Help me relax. | How do I meditate?
- Let us begin with one slow breath.
| First of all, put your feet on the floor and let your shoulders drop.
- Breathe in for four counts and out for six, five times in a row: a long breath out tells the body that all is
  well.
| Breathe in while you count to four and out while you count to six, and do it five times, since the long breath out
  is what calms you.
- Then write down what is on your mind, and choose only the next small step.
| Then take a sheet of paper, put down everything that presses on you, and pick just one small thing to do next.
- A walk around the block or a cup of tea by the window helps, too.
| After that, a short walk or a cup of tea does the rest.
- If it lasts for long, please talk with someone you trust.
| And if it will not go away, do talk to somebody you trust.
+ Try looking for five things you can see, four you can hear or feel, and one you can smell. It brings you back to
  the room in which nothing terrible is happening.

== friendship | friendship
names: friendship | *friends | a friend | making friends | a good friend
ask: How do I make friends? | How can I be a good friend? | What is a good friend? | How do I find friends?
- A friend is somebody with whom you may be silent, silly or wrong.
| Friendship is being glad that the other person is there, and showing it now and then.
- New friends are mostly found by doing the same thing in the same place every week, like a choir, a course or a
  football team.
| To find friends, do something regularly with the same people, such as singing, climbing or learning a language.
- Be the one who writes first and who asks a second question.
| It helps to be the one who invites, and the one who really listens.
- Remember what matters to the others, and ask about it later.
| Small things count most, such as remembering the name of the dog.
- It takes time, so do not be discouraged by small talk. Every friendship began with it.
| It grows slowly, as most good things do.
+ Old friends are worth a message, even after years. Hardly anybody has ever been cross about a friendly word.
""")
