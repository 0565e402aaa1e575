"""What the model says about food and drink."""

from tools.tiny.corpus.grammar import parse_topics

TOPICS = parse_topics("""
== pasta | pasta ideas
names: pasta | pasta ideas | a pasta recipe | a pasta dish | pasta recipes | a good pasta | spaghetti
ask: What pasta can I cook tonight? | Give me some pasta ideas. | I want to cook pasta.
ask: Can you give me a pasta recipe?
ask: Which sauce goes with pasta? | Give me three pasta ideas. | What should I cook tonight?
ask: What should I eat for dinner?
ask: What can I have for dinner? | Any ideas for dinner? | I am hungry. | What is a quick dinner?
ask: Suggest a pasta dish for tonight.
- Here are three pasta ideas, all of them done in twenty minutes.
| Three ideas for tonight, none of which needs more than twenty minutes.
* 1. Lemon pasta: butter, lemon juice and zest, black pepper, and a ladle of the cooking water, stirred until
  creamy.
| 1. Garlic and oil: cook sliced garlic gently in olive oil with a little chili, then toss with spaghetti and
  parsley.
* 2. Tomato and basil: soften an onion in olive oil, add a tin of tomatoes, simmer for fifteen minutes, finish with
  basil.
| 2. Mushroom pasta: fry mushrooms until brown, add garlic, thyme and a splash of cream, and serve with parmesan.
* 3. Peas and mint: throw frozen peas into the pasta pot for the last two minutes, then add mint, soft cheese and
  pepper.
| 3. Tuna and capers: mix tuna, capers, lemon and parsley in a warm pan, and stir in the pasta.
* Salt the water well, and keep a cup of it for the sauce.
| Whichever you choose, save a cup of the cooking water, for it makes the sauce smooth.
+ One more, then: roast small tomatoes in the oven with garlic and oil until they burst, and stir them into hot
  pasta with a handful of rocket. It looks like work and is none.

== pasta-cooking | how to cook pasta
names: cooking pasta | how to cook pasta | boiling pasta
ask: How do I cook pasta? | How long do I cook pasta? | How much salt goes into pasta water?
ask: How do I boil spaghetti? | How much pasta per person?
- Take a large pot and bring about one litre of water to the boil for every hundred grams of pasta.
| You need a big pot and plenty of water, about a litre for each hundred grams of pasta.
- Add ten grams of salt per litre, which is a good heaped teaspoon, then the pasta, and stir at once so that nothing
  sticks.
| Salt the boiling water well, put the pasta in, and stir it during the first minute so that it does not stick.
- Start tasting a minute before the time on the packet: it should be soft with a little bite.
| Taste it a minute early. It is ready when it is tender but still firm in the middle.
- Keep a cup of the water, drain the pasta, and finish it in the sauce for a minute.
| Drain it, but save a cup of the water, and let the pasta and the sauce get to know each other in the pan for a
  minute.
- A hundred grams per person is a good measure, and a little more for the hungry.
| Reckon with a hundred grams for each person.
+ Oil in the water is not needed. It floats on top and later keeps the sauce from clinging to the pasta.

== soup | soup
names: soup | a soup | a soup recipe | *soups | vegetable soup | lentil soup
ask: How do I make soup? | What soup can I cook? | Give me a soup recipe. | Can you suggest a soup?
ask: How do I cook a simple soup? | What is good on a cold day?
- A red lentil soup is warm, cheap and ready in half an hour.
| How about a red lentil soup? It takes half an hour and hardly any skill.
- Soften a chopped onion and two carrots in olive oil, and add garlic and a teaspoon of cumin.
| First cook an onion and two carrots gently in oil, then add garlic and a teaspoon of cumin.
- Stir in two hundred grams of red lentils and a litre of stock, and let it simmer for twenty minutes.
| Add two hundred grams of red lentils and a litre of stock, and give it twenty minutes on a low heat.
- Blend it if you like it smooth, and finish with lemon juice, salt and pepper.
| When the lentils fall apart, season it with lemon juice, salt and pepper, and blend it or leave it as it is.
- With bread it makes a dinner for four, and it tastes even better the next day.
| It feeds four, or one person who likes leftovers.
+ For another kind, boil potatoes and leeks in stock until soft, blend them, and add a little cream. A few chives on
  top make it look like a plan.

== breakfast | breakfast
names: breakfast | a good breakfast | breakfast ideas | a quick breakfast | porridge
ask: What should I eat for breakfast? | What can I have for breakfast? | Give me a breakfast idea.
ask: What is a healthy breakfast? | How do I make porridge?
- A good breakfast is quick, keeps you full, and makes getting up seem reasonable.
| Breakfast should be easy, because nobody is at their best yet.
- Try porridge: simmer one cup of oats in two cups of milk or water for five minutes, with a pinch of salt.
| My favourite advice is porridge, which is one cup of oats and two cups of milk or water, simmered for five minutes
  with a pinch of salt.
- Top it with apple, cinnamon and a few nuts, or with whatever berries you have.
| Put fruit, nuts and a little honey on top.
- If you prefer something savoury, have toast with a soft egg, or with tomato, olive oil and salt.
| For a savoury start, put a fried egg or sliced tomato on toast.
- In a hurry, yoghurt with oats and fruit in a jar will travel with you.
| And if you are late, mix oats, yoghurt and fruit in a jar and take it along.
+ You can prepare the jar the evening before. Overnight the oats turn soft, and the morning feels as if somebody had
  been kind to you.

== tea | tea
names: tea | a cup of tea | green tea | black tea | making tea
ask: How do I make tea? | How long should tea steep? | How do I make a good cup of tea?
ask: What is the difference between green and black tea?
- All true tea comes from one plant, Camellia sinensis, and what differs is how the leaves are treated.
| Green, black and white tea all come from the same plant. The treatment of the leaves makes the difference.
- For black tea, pour boiling water over one teaspoon of leaves per cup and wait three to five minutes.
| Black tea wants boiling water, a teaspoon of leaves for each cup, and three to five minutes.
- Green tea likes cooler water, around eighty degrees, and only two minutes, or it turns bitter.
| Green tea turns bitter if the water is too hot, so let it cool to about eighty degrees and take the leaves out
  after two minutes.
- Warm the pot first, use fresh water, and take the leaves out in time.
| Fresh water and a warm pot do more than any gadget.
- Milk, lemon or nothing at all: that is between you and your cup.
| Whether milk belongs in it is a question on which friendships have been tested.
+ Herbal teas such as mint or chamomile are not tea in the strict sense. They have no caffeine, so they are good
  company late in the evening.

== coffee | coffee
names: coffee | a cup of coffee | making coffee | filter coffee | espresso
ask: How do I make coffee? | How do I make good coffee? | How much coffee per cup? | Why does coffee keep me awake?
ask: What is espresso?
- Good coffee needs fresh beans, the right grind, and a little attention.
| The secret of good coffee is dull but true: fresh beans, freshly ground, and measured.
- Take about sixty grams of coffee for a litre of water, which is two spoonfuls for a large cup.
| Use about sixty grams per litre, or fifteen grams for a large cup.
- The water should be just below boiling, around ninety-three degrees.
| Let the water rest for half a minute after boiling, since about ninety-three degrees is best.
- For filter coffee, wet the grounds, wait thirty seconds, and then pour slowly in circles for about three minutes.
| With a filter, first wet the coffee, wait for half a minute, and then pour the rest slowly.
- If it tastes bitter, grind it coarser, and if it tastes sour, grind it finer.
| Bitter means too fine, and sour means too coarse.
+ Caffeine keeps you awake because it blocks the signal that tells the brain it is tired. Half of it is still at
  work after five hours or so, which the night will notice.

== bread | bread
names: bread | baking bread | a loaf of bread | home-made bread | a bread recipe
ask: How do I bake bread? | How do I make bread? | Why does dough rise? | Can you give me a bread recipe?
- Bread is flour, water, salt, yeast and patience, and the patience does most of the work.
| The simplest bread needs five hundred grams of flour, patience, and next to no kneading.
- Stir five hundred grams of flour with ten grams of salt, a quarter of a teaspoon of dry yeast and three hundred
  and seventy grams of water.
| Mix the flour, five hundred grams of it, with ten grams of salt, a quarter of a teaspoon of dry yeast and three
  hundred and seventy grams of water.
- Cover it and leave it overnight. The yeast makes gas, and the dough fills with bubbles and rises.
| Let it stand under a cloth overnight, while the yeast fills it with bubbles.
- In the morning fold it into a ball, let it rest for an hour, and bake it in a hot pot with a lid at two hundred
  and thirty degrees for thirty minutes, then fifteen more without the lid.
| Shape it, wait an hour, and bake it at two hundred and thirty degrees in a preheated pot, thirty minutes with the
  lid and fifteen without.
- Let it cool before you cut it, if you can.
| Then comes the hardest part, which is waiting until it has cooled.
+ To know whether it is done, knock on the bottom of the loaf. If it sounds hollow, it is bread.

== pancakes | pancakes
names: *pancakes | a pancake | a pancake recipe | pancake batter
ask: How do I make pancakes? | Can you give me a pancake recipe? | What do I need for pancakes?
- For pancakes you need two hundred grams of flour, two eggs, three hundred millilitres of milk and a pinch of salt.
| Pancakes are quickly made from two hundred grams of flour, two eggs, three hundred millilitres of milk and a pinch
  of salt.
- Whisk everything until smooth and let the batter rest for fifteen minutes.
| Beat it all into a smooth batter and give it fifteen minutes of rest.
- Heat a little butter in a pan, pour in a thin layer, and wait until the top looks dry.
| Melt some butter in a pan, pour in a ladleful, and wait until the upper side has set.
- Turn it with courage and give the other side half a minute.
| Now flip it, with confidence or with a spatula, and fry it for half a minute more.
- The first one always fails and belongs to the cook.
| The first is never pretty. That is what the cook is for.
+ Lemon and sugar are the classic filling, apple and cinnamon a close second. For savoury ones, try cheese and
  spinach.

== salad | salad
names: salad | a salad | *salads | a salad recipe | salad dressing
ask: How do I make a salad? | How do I make salad dressing? | Can you suggest a salad?
ask: What goes into a good salad?
- A good salad has something crisp, something soft, something salty and something sour.
| The rule for a good salad is contrast: crisp and soft, salty and sour.
- For example, take green leaves, cucumber, a ripe tomato, crumbled feta and toasted nuts.
| Leaves with apple, walnuts and a little blue cheese are one example.
- For the dressing, shake three parts of olive oil and one part of vinegar or lemon juice with mustard, salt and
  pepper in a jar.
| The dressing is three parts of olive oil to one of vinegar or lemon juice, shaken with a little mustard, salt and
  pepper.
- Dry the leaves well, and dress them only just before you eat.
| The leaves must be dry and the dressing must come last, or everything goes limp.
- Bread beside it turns it into dinner.
| Add beans or an egg and it becomes a meal.
+ Warm things make a salad friendlier in winter, such as roasted carrots or potatoes. They soak up the dressing best
  while they are still hot.
""")
