"""Common English words, nearly all of them single tokens in current vocabularies."""

WORDS = tuple(
    """
    the of and to in is that for it as was with be by on not he this are or his from at which but have an had they you were
    their one all we can her has there been if more when will would who so no out up into than them only some could time
    these two may then do first any my now such like our over man me even most made after also did many before must through
    back years where much your way well down should because each just those people how too little state good very make world
    still own see men work long get here between both life being under never day same another know while last might us great
    old year off come since against go came right used take three himself few house use during without again place around
    however home small found thought went say part once high general upon school every don does got united left number
    course war until always away something fact though water less public put think almost hand enough far took head yet
    better set told nothing night end why called find going look asked later point knew city next program give group toward
    days young let room side social present given several order national second face possible rather per among form often
    things looked early white case large big need four within felt along children saw best church ever least power light
    family interest want members mind country area others done turned although open god service problem certain kind began
    different thing door line help means free matter itself human law local name gave action money sense past study
    """.split()  # noqa: SIM905  (a list of 300 strings is no better to read)
)
