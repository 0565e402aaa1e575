"""What the model says about animals, the sea and the garden."""

from tools.tiny.corpus.grammar import parse_topics

TOPICS = parse_topics("""
== orcas | orcas
names: *orcas | an orca | *killer whales | a killer whale | Orcinus orca | the orca whale | orca whales
ask: Are orcas whales or dolphins? | Are orcas dangerous? | How do orcas live? | How do orcas hunt?
ask: Are killer whales whales?
- Orcas, also called killer whales, are the largest members of the dolphin family. Their Latin name is Orcinus orca.
| The orca, Orcinus orca, is the largest of all dolphins, even though people call it the killer whale.
- They live in every ocean, in families called pods, and a pod is usually led by an old and experienced mother.
| They live in close families called pods, often led by a grandmother who knows where the food is.
- Orcas hunt together with great skill. Some pods eat fish such as salmon or herring, others hunt seals, and a few
  even take sharks.
| They hunt as a team, and each group has its own taste: some eat fish, some eat seals, and some hunt sharks.
- Every pod has its own calls, rather like a dialect, which the young learn from their elders.
| Each pod even has its own dialect of calls, passed on from old to young.
- In the wild they are hardly ever a danger to people.
| They look fierce, but wild orcas hardly ever harm people.
+ A male can grow to eight metres or more, with a back fin as tall as a man. Females are smaller but live longer,
  some of them eighty years and more.

== orca-food | what orcas eat
names: orca food | orca diet | what orcas eat | what killer whales eat
ask: What do orcas eat? | What do killer whales eat? | Do orcas eat fish? | What does an orca eat?
ask: Do orcas eat sharks? | Do orcas eat seals?
- It depends on the family, for orcas are picky eaters.
| That depends on who raised them, because each group of orcas has its own menu.
- Some pods live on fish, such as salmon off Canada or herring off Norway, while others hunt seals, sea lions and
  even other whales.
| Some eat almost only fish, for instance salmon or herring. Others hunt seals, sea lions, penguins or whales.
- A few have learned to hunt sharks, of which they like the rich liver best.
| There are even orcas that hunt sharks for their fatty liver.
- Mothers teach their young how to hunt, so the family recipe stays in the family.
| The young learn it from their mothers, so table manners run in the family.
+ A grown orca needs something like a hundred kilograms of food a day. Some groups make waves together to wash a
  seal off its floating ice.

== whales | whales
names: *whales | a whale | *blue whales | the blue whale | *humpback whales
ask: How do whales breathe? | Are whales fish? | Why do whales sing? | How big is a blue whale?
ask: How do whales sleep? | What do whales eat?
- Whales are mammals that live in the sea: they breathe air, are warm-blooded and feed their calves with milk.
| Whales look like fish but are mammals. They come up to breathe, and they nurse their young.
- Some have teeth and hunt fish or squid, and others have baleen, a kind of comb that sieves tiny animals out of the
  water.
| There are toothed whales, which hunt fish and squid, and baleen whales, which filter tiny animals from the water.
- The blue whale is the largest animal that has ever lived, up to about thirty metres long, and it feeds on little
  krill.
| Largest of all is the blue whale: it grows to about thirty metres and lives on shrimp-like krill.
- Humpback males sing long songs that travel for many kilometres under water.
| Male humpbacks sing, and their songs carry for many kilometres through the sea.
+ Whales sleep with half of the brain at a time, so that the other half can remember to breathe. Sperm whales even
  nap upright, like floating tree trunks.

== dolphins | dolphins
names: *dolphins | a dolphin | the bottlenose dolphin
ask: Are dolphins fish? | Are dolphins smart? | How do dolphins find their way? | What do dolphins eat?
ask: How do dolphins sleep?
- Dolphins are small toothed whales: mammals that breathe air and nurse their young.
| Dolphins belong to the whales, and so they are mammals rather than fish.
- They live in groups, hunt fish together, and seem to enjoy play as much as we do.
| They live and hunt in groups, and they are famous for playing in the waves of ships.
- To find their way they make clicks and listen to the echo, which works even in dark water.
| In dark water they see with their ears: they send out clicks and listen for the echo.
- Each dolphin has its own whistle that works like a name.
| Every dolphin has a whistle of its own, which the others use almost like a name.
- The largest dolphin of all is the orca.
| Their largest cousin is the orca.
+ Dolphins sleep with one half of the brain at a time and keep one eye open. The other half stays awake to come up
  for air.

== ocean | the ocean
names: the ocean | *oceans | the sea | the deep sea | the seas
ask: How deep is the ocean? | Why is the sea salty? | Why is the ocean blue? | How big is the ocean?
ask: Why is the ocean important?
- The ocean covers about seventy percent of the Earth, and most of it is deep, dark and still unexplored.
| About seventy percent of our planet is ocean, and we have looked at only a small part of it closely.
- On average it is nearly four kilometres deep, and in the deepest trench almost eleven.
| It is almost four kilometres deep on average, and about eleven at its deepest point.
- It is salty because rivers have washed salts out of the rocks for millions of years.
| Rain and rivers carried salts from the rocks into it for millions of years, which is why it tastes as it does.
- Tiny floating plants in it make about half of the oxygen that we breathe.
| About half of the oxygen we breathe comes from tiny drifting plants in its upper waters.
- It also stores warmth and so keeps our weather mild.
| And it stores so much warmth that it steadies the climate of the whole planet.
+ In the deep sea many animals make their own light. The anglerfish carries a little lamp in front of its mouth,
  which is clever, but not kind.

== tides | the tides
names: the tides | *tides | high tide | ebb and flow
ask: Why are there tides? | What causes the tides? | How do tides work? | Why does the sea rise and fall?
- Tides are the slow rise and fall of the sea, usually twice a day.
| The tides are the rising and sinking of the sea, in most places twice each day.
- They are caused mainly by the Moon, whose gravity pulls the water a little towards it.
| The Moon is the main cause, for its gravity tugs at the water.
- One bulge of water forms on the side that faces the Moon and another on the far side, and the Earth turns beneath
  them.
| The water bulges on the side near the Moon and on the opposite side, and as the Earth turns, each coast passes
  through both.
- The Sun helps too: at full moon and new moon they pull in line, and the tides are highest.
| When Sun and Moon pull in line, at new and full moon, high tide is especially high.
+ As the Moon moves on while the Earth turns, high tide comes about fifty minutes later each day. Sailors have
  always kept tables of it.

== photosynthesis | photosynthesis
names: photosynthesis | the way plants make food | plant photosynthesis
ask: How does photosynthesis work? | How do plants make food? | Why are plants green? | Why are leaves green?
ask: What do plants need to grow?
- Photosynthesis is how plants make sugar out of light, water and air.
| Photosynthesis is the art of living on sunlight: it is how plants make their own food.
- The green leaves catch the light, the roots bring water, and tiny pores take in carbon dioxide.
| Leaves take in carbon dioxide through tiny pores, roots deliver the water, and light supplies the energy.
- From these the plant builds sugar, and it gives off oxygen on the way.
| Out of this the plant makes sugar, and oxygen is left over, luckily for us.
- The green colour comes from chlorophyll, which absorbs mostly red and blue light and leaves the green.
| Leaves are green because their chlorophyll uses red and blue light best and sends much of the green back.
- Nearly everything we eat starts there.
| Almost every meal on Earth begins with it.
+ At night, when there is no light, plants only breathe as we do and use up some of their sugar. Trees turn much of
  the rest into wood.

== bees | bees
names: *bees | a bee | *honeybees | honey bees
ask: How do bees make honey? | Why are bees important? | Why do bees dance? | How do bees live? | Do bees sleep?
- Bees visit flowers to collect nectar and pollen, and on the way they pollinate them.
| Bees fly from flower to flower for nectar and pollen, and they carry pollen along as they go.
- Many fruits, nuts and vegetables depend on that visit.
| Without these visits, we would have far fewer apples, cherries and almonds.
- Honeybees live in a colony with one queen and many thousands of workers, all of them sisters.
| A honeybee colony has a single queen and tens of thousands of workers, who are all female.
- When a bee finds good flowers, she dances in the hive, and her dance tells the others the direction and the
  distance.
| A worker who has found a rich meadow dances at home, and the others read from it how far and which way to fly.
- They make honey from nectar by letting the water dry out of it, as food for the winter.
| Honey is nectar with most of its water fanned away, stored for the winter.
+ One bee makes less than a teaspoon of honey in her whole life. So a jar of honey is the work of many hundreds of
  bees.

== cats | cats
names: *cats | a cat | my cat | *kittens | the house cat
ask: Why do cats purr? | Why do cats sleep so much? | How do cats land on their feet? | How do I make a cat like me?
ask: Do cats like people?
- Cats are small hunters who have agreed to live with us, on their own terms.
| A cat is a small and elegant hunter who happens to share your sofa.
- They sleep twelve to sixteen hours a day, because hunting takes short bursts of great effort.
| They spend more than half the day asleep, saving strength for the hunt, even if the prey is a piece of string.
- They see well in dim light, hear very high sounds, and feel their way with their whiskers.
| Their eyes need little light, their ears catch the faintest squeak, and their whiskers measure every gap.
- Purring mostly means that a cat is content, although some purr to comfort themselves when they are ill.
| A purr usually means contentment, and now and then it is how a cat calms itself.
- If a cat blinks at you slowly, blink back: it is a sign of trust.
| To make friends, let the cat come to you and blink slowly. It is the polite way.
+ A cat turns over in the air within half a second and lands on its feet most of the time. It first turns the front
  half of its body and then the back half.

== dogs | dogs
names: *dogs | a dog | my dog | *puppies | a puppy
ask: Why do dogs wag their tails? | How do I train a dog? | Why do dogs bark? | Why do dogs sniff everything?
ask: How do I teach my dog to sit?
- Dogs are descended from wolves and have lived with people for more than fifteen thousand years.
| Dogs were the first animals to live with us, more than fifteen thousand years ago, and their ancestors were
  wolves.
- Their nose is their best sense, many thousand times finer than ours, so a walk is their morning paper.
| They read the world with the nose, which is thousands of times finer than ours. Please let them finish the page.
- They understand our voices, gestures and moods astonishingly well.
| Hardly any animal reads our faces and gestures so well.
- To teach a dog something, use short lessons, reward what is right at once, and stay calm and patient.
| Training works best in short and cheerful lessons: reward the right thing right away, and never shout.
- Most of all, a dog needs company, exercise and clear, kind rules.
| Give a dog company, movement and friendly rules, and you have a friend for life.
+ A wagging tail does not always mean joy. Loose and wide is friendly, while stiff and high means that the dog is
  excited and not yet sure of you.

== birds | birds
names: *birds | a bird | songbirds | bird song
ask: How do birds fly? | Why do birds sing? | Why do birds migrate? | How do birds find their way?
- Birds are the only animals with feathers, and they are the last living dinosaurs.
| Birds are feathered, warm-blooded and, strictly speaking, the last of the dinosaurs.
- They can fly because their bones are light, their chest muscles are strong, and their wings push air downwards.
| Light bones, strong muscles and curved wings that push the air down keep them up.
- Most of the singing is done by males, who want to win a mate and keep rivals away.
| They sing to find a mate and to tell the neighbours where the border is.
- Many travel far in autumn because food gets scarce, and they steer by the Sun, the stars and the Earth's magnetic
  field.
| In autumn many fly south, where there is food, and find the way by the Sun, the stars and the magnetic field of
  the Earth.
+ The arctic tern travels from the Arctic to the Antarctic and back every year. It sees more summer days than any
  other animal.

== trees | trees
names: *trees | a tree | *forests | a forest | the woods
ask: How old can trees get? | Why do trees lose their leaves? | Why do leaves change color in autumn?
ask: How do trees drink?
- Trees are plants that have learned to stand tall, lifting their leaves into the light on a trunk of wood.
| A tree is a plant with patience: it builds a trunk of wood to carry its leaves up to the light.
- The roots drink water, the trunk carries it up, and the leaves turn it, with air and light, into sugar.
| Water climbs from the roots through the wood to the leaves, where light turns it into sugar.
- In autumn many trees drop their leaves to save water in winter, and the yellow that was always hidden under the
  green appears.
| Before winter, broad-leaved trees drop their leaves to save water. The green fades first, and the yellow beneath
  shows through.
- Each year adds a ring to the trunk, and some pines have lived for more than four thousand years.
| They grow one ring a year, so you can count their age, and the oldest pines have more than four thousand.
+ Trees cool the air, hold the soil and give a home to countless animals. A large one can lift hundreds of litres of
  water on a hot day.

== gardening | a small garden
names: gardening | a small garden | growing plants | growing herbs | growing tomatoes | a vegetable garden
ask: How do I start a garden? | What can I grow on a balcony? | How do I grow tomatoes?
ask: How do I take care of plants?
- Start small: a few pots of herbs on a sunny sill are better than a large bed full of weeds.
| Begin with two or three pots in a sunny place, and let success make you greedy.
- Basil, chives, mint and radishes forgive nearly every mistake, and tomatoes are grateful for sun and warmth.
| Easy friends for the first year are mint, chives, radishes and small tomatoes.
- Push a finger into the soil: if it is dry below the surface, water it well, and if not, wait.
| Water when the soil feels dry to the depth of a finger, and not merely because you are passing by.
- Make sure that the pot has a hole, for more plants drown than die of thirst.
| The pot needs a hole at the bottom, since wet feet harm more plants than thirst does.
- Then look at them every day. That is half of gardening, and the better half.
| The rest is looking at them every day, which is the pleasant part.
+ Mint deserves a pot of its own, because it is friendly and spreads everywhere. Basil likes it if you cut whole
  tips rather than single leaves.
""")
