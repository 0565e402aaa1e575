"""What the model says about physics, the sky and the weather."""

from tools.tiny.corpus.grammar import parse_topics

TOPICS = parse_topics("""
== quantum | quantum physics
names: quantum physics | quantum mechanics | quantum theory | quantum physics for beginners | the quantum world
ask: How does quantum physics work? | Explain quantum physics like I am five. | What is a quantum?
ask: What is superposition? | What is entanglement?
- Quantum physics describes the very small: atoms, electrons and light.
| Quantum physics is the rule book for very small things such as atoms, electrons and particles of light.
- Down there, energy comes in tiny portions called quanta, a bit like stairs instead of a ramp.
| Its first surprise is that energy comes in small fixed portions, the quanta, like steps on a staircase.
- A particle also behaves like a wave, and before it is measured it has no fixed place, only chances of being here
  or there.
| The second surprise is that a particle is a wave as well: until you measure it, there are only probabilities for
  where it will be found.
- That is called superposition, and a measurement makes one of the possibilities real.
| Several possibilities exist side by side, which is called superposition, and measuring picks one of them.
- It sounds strange, yet lasers, computer chips and solar cells all depend on it.
| However odd this seems, it works perfectly: without it there would be no lasers and no computer chips.
+ Two particles can also be entangled, so that their measured results match even when they are far apart. No message
  can be sent that way, though, however tempting it looks.

== light | light
names: light | the nature of light | visible light | the speed of light | *photons
ask: How fast is light? | What is light made of? | Is light a wave or a particle? | How does light work?
ask: What is a photon?
- Light is a wave of electric and magnetic fields, and the part of it that we see is only a small piece of the whole
  range.
| Light is an electromagnetic wave, a cousin of radio waves and X-rays that our eyes happen to see.
- Its colour depends on its wavelength: red has the longest waves that we can see, and violet the shortest.
| Each colour is a wavelength, from long red waves to short violet ones.
- At the same time light comes in portions called photons, so it is wave and particle in one.
| It also comes in tiny packets called photons, so it behaves like a wave and like a particle.
- In empty space it travels about three hundred thousand kilometres per second, and nothing is faster.
| Nothing outruns it: in empty space it covers about three hundred thousand kilometres every second.
- Sunlight takes a little more than eight minutes to reach us.
| Even so, sunlight needs about eight minutes to get here.
+ In water and glass light is slower, and so it bends when it enters them at an angle. That is how lenses work, and
  why a spoon in a glass looks broken.

== gravity | gravity
names: gravity | gravitation | the force of gravity
ask: How does gravity work? | Why do things fall down? | What causes gravity? | Why does an apple fall?
ask: Why don't we float away?
- Gravity is the pull that all things with mass have on one another.
| Gravity is the attraction between all things that have mass, from apples to galaxies.
- The more mass, the stronger the pull, and the greater the distance, the weaker it gets.
| It grows with mass and fades with distance.
- The Earth holds us to the ground, keeps the Moon on its path, and the Sun does the same with the Earth.
| It keeps our feet on the floor, the Moon near the Earth, and the Earth near the Sun.
- Newton described how strong it is, and Einstein explained why: mass bends space and time, and things follow the
  bend.
| Newton gave us the formula, and Einstein the picture: mass curves space and time, and everything moves along the
  curves.
- Without air, a feather would fall as fast as a hammer, and an astronaut once showed it on the Moon.
| In a vacuum all things fall equally fast, as an astronaut showed on the Moon with a feather and a hammer.
+ Astronauts in orbit are not free of gravity. They are falling all the time, but so fast sideways that they keep
  missing the Earth.

== black-holes | black holes
names: *black holes | a black hole | the event horizon
ask: How do black holes form? | What happens in a black hole? | How does a black hole work?
ask: Can light escape from a black hole?
- A black hole is a place where so much mass is packed together that not even light can get away.
| A black hole is matter squeezed so tightly that its gravity lets nothing escape, not even light.
- Many of them form when a very heavy star has burnt its fuel and its core collapses.
| The usual way to make one is to let a very heavy star run out of fuel, so that its core falls in on itself.
- The border is called the event horizon: whatever crosses it cannot come back.
| Around it lies the event horizon, the line of no return.
- A black hole does not suck up everything around it, and from far away its gravity is like that of any other mass.
| It is not a vacuum cleaner, though, and a planet can circle it safely at a distance.
- In the middle of our own galaxy there is one with the mass of about four million suns.
| A giant one sits in the middle of our galaxy, as heavy as about four million suns.
+ We see black holes by what happens around them. Gas that falls towards them becomes hot and shines brightly, and
  stars nearby run in tight circles.

== moon | the Moon
names: the moon | the Moon | our moon | the phases of the moon | moonlight
ask: How far away is the moon? | Why does the moon change its shape? | Why does the moon shine?
ask: How did the moon form? | Why do we see the same side of the moon?
- The Moon is the Earth's companion, a ball of rock about a quarter as wide as the Earth.
| The Moon is a ball of rock that circles the Earth, and it is about a quarter as wide as our planet.
- It is roughly three hundred and eighty-four thousand kilometres away and goes around us in about four weeks.
| It takes about four weeks for one round, at a distance of roughly three hundred and eighty-four thousand
  kilometres.
- It does not shine by itself but reflects the light of the Sun, and its phases show how much of the bright half we
  can see.
| Its light is borrowed from the Sun. As it moves around us we see more or less of its sunny half, and those are the
  phases.
- It turns once on each trip, so we always see the same side.
| We always see the same face, because it turns once for every round.
- It probably formed when something the size of Mars struck the young Earth.
| Most likely it was born from a great crash between the young Earth and a body the size of Mars.
+ Twelve people have walked on the Moon, all of them between 1969 and 1972. Their footprints are still there, since
  no wind blows them away.

== stars | stars
names: *stars | a star | the stars in the sky | starlight
ask: How do stars form? | Why do stars shine? | Why do stars twinkle? | How far away are the stars?
ask: How do stars die?
- Stars are huge balls of hot gas that make their own light, and the Sun is one of them.
| A star is a giant ball of glowing gas, and our Sun is simply the nearest one.
- They are born in clouds of gas that gravity pulls together until the middle becomes hot enough to ignite.
| Gravity makes them by pulling a cloud of gas together until its centre is hot and dense.
- There hydrogen fuses into helium, which releases the energy that we see as light.
| In the core hydrogen is fused into helium, and that is where all the light comes from.
- Blue stars are the hottest and red ones the coolest.
| Their colour shows how hot they are, red for cool and blue for very hot.
- They twinkle only because our restless air bends their light.
| The twinkling is not theirs at all, but comes from the moving air above us.
+ Small stars burn quietly for many billions of years. Very heavy ones end with a bang called a supernova, and the
  elements they made become part of planets, and of us.

== sun | the Sun
names: the sun | the Sun | our sun | sunlight | solar energy
ask: How hot is the sun? | Why does the sun shine? | How far away is the sun? | How big is the sun?
ask: How old is the sun?
- The Sun is a star, a ball of hot gas so large that more than a million Earths would fit inside.
| The Sun is our own star, and it is large enough to hold more than a million Earths.
- In its core hydrogen fuses into helium, and the energy of that keeps us warm.
| Its energy comes from the core, where hydrogen is fused into helium.
- The surface is about five and a half thousand degrees Celsius hot, and the core about fifteen million.
| It is about fifteen million degrees hot in the middle and still five and a half thousand at the surface.
- It is a hundred and fifty million kilometres away, so its light is eight minutes old when we see it.
| Its light needs about eight minutes for the hundred and fifty million kilometres to us.
- Never look straight into it, however friendly it seems.
| It is better enjoyed with closed eyes than looked at directly.
+ The Sun is about four and a half billion years old, and it has fuel for some five billion more. There is no need
  to hurry.

== planets | planets
names: *planets | the solar system | our solar system | the planets of the solar system | Mars | Jupiter | Saturn
ask: How many planets are there? | Which planet is the largest? | What planets are in the solar system?
ask: Why is Mars red?
- Eight planets travel around our Sun: Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.
| Our solar system has eight planets, which are Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.
- The inner four are small and rocky, and the outer four are large and made mostly of gas and ice.
| The first four are balls of rock, while the last four are giants of gas and ice.
- Jupiter is the largest, Saturn has the finest rings, and Mars is red because its dust is rusty.
| Mars is red with rust, Jupiter is bigger than all the others together, and Saturn wears splendid rings.
- As far as we know, only one of them has tea.
| Only one of them, as far as we know, is home to anybody who could ask.
+ Venus is hotter than Mercury although it is farther from the Sun, because its thick air keeps the heat in. A day
  there lasts longer than its year.

== blue-sky | why the sky is blue
names: the blue sky | the color of the sky | a blue sky | red sunsets | *sunsets
ask: Why is the sky blue? | Why is the sky red at sunset? | Why are sunsets red? | What makes the sky blue?
ask: Why does the sky look blue? | How come the sky is blue?
- The sky is blue because air scatters blue light much more than red light.
| It is the air: it scatters the blue part of sunlight far more than the red part.
- Sunlight contains all the colours, and the tiny molecules of the air throw the short blue waves in all directions.
| All colours travel in sunlight, but the short blue waves bounce off the molecules of the air and come at us from
  everywhere.
- So wherever you look, some blue light reaches your eye.
| That is why blue reaches your eye from every part of the sky.
- In the evening the light has a longer way through the air, most of the blue is lost on the way, and the sunset
  looks red.
| At sunset the light crosses so much air that the blue is gone before it arrives, and red and orange remain.
+ Violet is scattered even more, but sunlight holds less of it and our eyes are weaker there. On the Moon, where
  there is no air, the sky is black even by day.

== rain | rain and rainbows
names: rain | *rainbows | a rainbow | *clouds | a cloud | raindrops
ask: How does rain form? | Why does it rain? | How do rainbows form? | How is a rainbow made?
ask: What are clouds made of?
- Rain begins when the Sun warms the water and some of it rises as invisible vapour.
| It starts with the Sun, which lifts water into the air as vapour.
- High up it cools and gathers on specks of dust as tiny droplets: that is a cloud. When the drops grow heavy, they
  fall.
| Up there it is cold, so the vapour turns into droplets, which make a cloud. They join and grow until they are
  heavy enough to fall.
- If the Sun shines on the falling drops, you may see a rainbow.
| And when the Sun comes out while it is still raining, there may be a rainbow.
- Each drop bends the light, splits it into colours and sends it back, red on the outside and violet on the inside.
| The drops bend and mirror the light and fan it out into its colours, with red outside and violet inside.
- To see one, stand with the Sun behind you and the rain in front.
| Look for it with your back to the Sun.
+ Every rainbow is really part of a circle, and from an aeroplane you can sometimes see it whole. Two people never
  see exactly the same one.

== thunder | thunder and lightning
names: thunder | lightning | *thunderstorms | thunder and lightning | a thunderstorm
ask: What causes lightning? | How does lightning form? | Why does thunder come after lightning?
ask: How far away is the storm?
- Lightning is a huge electric spark between a cloud and the ground, or between clouds.
| Lightning is an electric spark on a grand scale.
- In a storm cloud, bits of ice rub against one another, and charges build up until the air can hold them no longer.
| It happens when ice crystals in a cloud collide and pile up electric charge, until the charge breaks through the
  air.
- The flash heats the air so suddenly that it bursts outwards, and that bang is thunder.
| The air on its path becomes hotter than the surface of the Sun and bursts apart, which we hear as thunder.
- Light arrives at once and sound takes about three seconds per kilometre, so counting tells you how far away it is.
| Count the seconds between flash and thunder and divide by three: that is the distance in kilometres.
- Indoors or in a car you are safe, while a lonely tree is a poor shelter.
| Go indoors or into a car, and stay away from single trees.
+ Lightning strikes somewhere on Earth some forty times every second. It can hit the same place twice, and tall
  towers are struck many times a year.

== seasons | the seasons
names: the seasons | *seasons | the four seasons | summer and winter
ask: Why are there seasons? | What causes the seasons? | Why is it cold in winter? | Why is summer warm?
ask: How do seasons work?
- We have seasons because the axis of the Earth is tilted by about twenty-three degrees.
| The seasons come from the tilt of the Earth, whose axis leans by about twenty-three degrees.
- On the way around the Sun, first one half of the Earth leans towards it and then the other.
| During the year the northern half leans towards the Sun for some months, and then it is the turn of the south.
- The half that leans in has long days and a high Sun, and so it has summer.
| Where the Sun stands high and the days are long, it is summer.
- The other half has short days and slanting light, which is winter.
| On the other side the days are short and the light falls at a slant, and people look for their gloves.
- It has nothing to do with the distance: the Earth is nearest to the Sun in early January.
| Distance is not the reason, for in January the Earth is even a little closer to the Sun than in July.
+ Near the equator the days are almost equally long all year, and many places have a rainy and a dry season instead.
  When it is winter in Norway, it is summer in Chile.

== atoms | atoms
names: *atoms | an atom | *molecules | *electrons | matter
ask: How small is an atom? | What are atoms made of? | What is matter made of? | What is inside an atom?
- Atoms are the building blocks of everything around you, from the air to your spoon.
| Everything you can touch is made of atoms.
- Each has a tiny nucleus of protons and neutrons, and around it a cloud of electrons.
| In the middle of each sits a nucleus of protons and neutrons, and electrons form a cloud around it.
- The number of protons decides which element it is: one for hydrogen, six for carbon, eight for oxygen.
| Count the protons and you know the element, for instance hydrogen with one or carbon with six.
- Atoms are so small that millions of them side by side would just cross the full stop of this sentence.
| They are so tiny that a row of millions would fit into a full stop.
- Several atoms that hold together are called a molecule, and water is the famous one.
| When atoms hold on to one another they form molecules, such as water.
+ If the nucleus were as large as a pea, the electrons would be found as far away as the seats of a stadium. Most of
  an atom is empty space.

== time | time
names: time | the nature of time | time in physics | clocks
ask: Why does time pass? | How does a clock work? | Why does a day have 24 hours? | Can we travel in time?
ask: Why do we have leap years?
- Time is what clocks measure: the order of things, and the distance between them.
| The plainest answer is that time is what a clock shows, and even physicists like that answer.
- A clock counts something regular, such as the swing of a pendulum or the trembling of a crystal.
| To measure it, we count something that repeats evenly, like a pendulum or a quartz crystal.
- A day is one turn of the Earth and a year is one trip around the Sun, which takes about a quarter of a day more
  than 365 days, hence the leap years.
| One turn of the Earth makes a day, one trip around the Sun a year, and leap years collect the quarter day left
  over.
- Einstein found that clocks in motion run a little slower, and satellites have to allow for that.
| Since Einstein we know that moving clocks run slightly slow, which satellites have to take into account.
- Travel into the past seems to be closed to us, but into the future we all go, at one hour per hour.
| As for time travel, all of us are on the way into the future already, at a speed of one hour per hour.
+ I cannot tell you what time it is now, because I have no clock. For me it is always the moment in which you ask.
""")
