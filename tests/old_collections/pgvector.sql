CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';
CREATE TABLE public.jclip_collections (
    name text NOT NULL COLLATE pg_catalog."C",
    format integer NOT NULL,
    fingerprint text NOT NULL,
    layout text NOT NULL
);
CREATE TABLE public.photos (
    key uuid NOT NULL,
    record_id bytea NOT NULL,
    modality text NOT NULL,
    payload text NOT NULL,
    terms jsonb NOT NULL,
    numbers jsonb NOT NULL,
    fields jsonb NOT NULL,
    embedding public.vector(24) NOT NULL,
    first public.vector(8) GENERATED ALWAYS AS ((public.subvector(embedding, 1, 8))::public.vector(8)) STORED NOT NULL
);
CREATE TABLE public.photos_tiles (
    key uuid NOT NULL,
    "position" integer NOT NULL,
    embedding public.vector(24) NOT NULL
);
INSERT INTO public.jclip_collections VALUES ('photos', 1, '{"model": "hash", "revision": "1", "dimensions": 24, "normalize": true, "max_tokens": null, "resize_mode": null, "exif_orientation": false, "precision": "auto", "tiling": "max_tiles=4"}', '{"dimensions": 24, "storage": "vector", "coarse": 8, "quantization": null, "hnsw": null}');
INSERT INTO public.photos VALUES ('23798a44-f393-5441-827d-c1dccc8483d9', '\xc3bc2ff09f9ab2', 'text', '{"record_id": "\u00fc/\ud83d\udeb2", "modality": "text", "content": "ein gr\u00fcnes Quadrat \ud83d\udeb2", "uri": null, "content_hash": "sha256:312ad0657edc89e3a0d6916b29bd0aebe919d932d31c6831aeaf221b13b88386", "metadata": "{\"year\": 2020.5, \"flag\": true, \"none\": null}", "tile_boxes": null}', '["[\"year\"]", "[\"year\", 2020.5]", "[\"flag\"]", "[\"flag\", true]", "[\"none\"]", "[\"none\", null]"]', '{"year": [2020.5]}', '{"flag": true, "none": null, "year": 2020.5}', '[0.1437141,0.10981373,0.17378677,-0.30933303,0.32724714,0.10264042,0.11493184,0.10043556,-0.06885486,-0.42087236,-0.038406797,-0.42973983,0.19130754,0.10769952,-0.26516142,-0.18578959,0.2311819,-0.23261774,-0.021410761,-0.091676414,0.082934394,-0.18246938,-0.1432047,-0.048210043]', DEFAULT);
INSERT INTO public.photos VALUES ('e87302d5-7875-586b-94ad-47edc324e0a2', '\x7431', 'text', '{"record_id": "t1", "modality": "text", "content": "a red ring on a table", "uri": null, "content_hash": "sha256:14f4694c6b0fc3c4c318421af14427b28a746ddb511df59a6b5e71d4b3dd61ca", "metadata": "{\"year\": 2019, \"tags\": [\"a\", \"b\"], \"nested\": {\"x\": [1, null, 2.5]}, \"big\": 1180591620717411303424}", "tile_boxes": null}', '["[\"year\"]", "[\"year\", 2019]", "[\"tags\"]", "[\"tags\", \"a\"]", "[\"tags\", \"b\"]", "[\"nested\"]", "[\"big\"]", "[\"big\", 1180591620717411303424]"]', '{"big": [1180591620717411300000], "year": [2019.0]}', '{"big": 1180591620717411303424, "tags": ["a", "b"], "year": 2019, "nested": {"x": [1, null, 2.5]}}', '[-0.046914246,-0.14154983,-0.22615303,0.21670853,-0.13989434,0.11441743,0.024271727,0.015739908,0.3677126,0.3164392,-0.07724454,-0.05231882,0.094554156,-0.012531527,-0.2752835,-0.12837352,-0.42052275,0.09588436,0.016581213,-0.08177092,-0.2725754,-0.1899145,-0.37347737,0.24063018]', DEFAULT);
INSERT INTO public.photos VALUES ('5742346a-519b-56ad-a572-e56ff3caa086', '\x74776f', 'image', '{"record_id": "two", "modality": "image", "content": null, "uri": "two.png", "content_hash": "sha256:5a0e8873b3e9fdd06a35ad692fa7e54ef1443baa8d2845d3febe88bc741bbefd", "metadata": "{}", "tile_boxes": [[0, 0, 9, 6], [0, 0, 4, 6], [4, 0, 9, 6]]}', '[]', '{}', '{}', '[-0.27005067,0.2499723,-0.038602564,-0.0025068875,-0.3185745,-0.24470119,-0.16601977,-0.16670524,0.0718281,0.3423966,-0.24447408,-0.010590184,0.3520548,-0.055326283,0.0017465046,-0.2781227,-0.20659338,0.115663245,0.27698287,0.100300126,-0.2923993,-0.06310356,-0.12927166,-0.10347043]', DEFAULT);
INSERT INTO public.photos VALUES ('5ea82408-2c57-5931-a41f-3abebeef1fd3', '\x6f6e65', 'image', '{"record_id": "one", "modality": "image", "content": null, "uri": "one.png", "content_hash": "sha256:fecbc15a14da1b5702ba6a29a64f9efcb889f84c1725ce3335ee7d308a605c95", "metadata": "{\"year\": 2018, \"place\": \"Z\\u00fcrich\"}", "tile_boxes": [[0, 0, 8, 6], [0, 0, 4, 6], [4, 0, 8, 6]]}', '["[\"year\"]", "[\"year\", 2018]", "[\"place\"]", "[\"place\", \"Z\\u00fcrich\"]"]', '{"year": [2018.0]}', '{"year": 2018, "place": "Zürich"}', '[-0.22755231,0.35328522,0.33818537,0.06476265,0.18179825,0.3794843,-0.33333153,-0.085585274,0.14897275,-0.051536117,-0.17823993,0.005590193,-0.19089735,-0.25860873,0.005723525,0.11064142,0.016990755,0.04802731,0.23804575,-0.18231386,-0.26956555,-0.20218916,-0.123942636,-0.12530302]', DEFAULT);
INSERT INTO public.photos VALUES ('aa6074e2-5590-53e8-8ca6-c054a0f38e26', '\x7468726565', 'image', '{"record_id": "three", "modality": "image", "content": null, "uri": "three.png", "content_hash": "sha256:23985b4d535e93a24c1a6daac315b7e3e082b8ca5b98d02fa772ac012058108c", "metadata": "{\"year\": [1999, 2001]}", "tile_boxes": [[0, 0, 10, 6], [0, 0, 5, 6], [5, 0, 10, 6]]}', '["[\"year\"]", "[\"year\", 1999]", "[\"year\", 2001]"]', '{"year": [1999.0, 2001.0]}', '{"year": [1999, 2001]}', '[0.265747,0.20685208,0.10650139,0.19340818,-0.016701767,-0.06156587,0.28858227,0.05856012,0.25122252,-0.03575917,0.12732391,-0.3626901,0.28244433,-0.29729503,0.27133703,0.23181668,-0.04816094,-0.11922104,-0.056350265,0.26901472,0.34991896,-0.1419872,0.02439,0.064174466]', DEFAULT);
INSERT INTO public.photos_tiles VALUES ('5ea82408-2c57-5931-a41f-3abebeef1fd3', 0, '[-0.22755231,0.35328522,0.33818537,0.06476265,0.18179825,0.3794843,-0.33333153,-0.085585274,0.14897275,-0.051536117,-0.17823993,0.005590193,-0.19089735,-0.25860873,0.005723525,0.11064142,0.016990755,0.04802731,0.23804575,-0.18231386,-0.26956555,-0.20218916,-0.123942636,-0.12530302]');
INSERT INTO public.photos_tiles VALUES ('5ea82408-2c57-5931-a41f-3abebeef1fd3', 1, '[0.1558055,-0.14105277,-0.2075224,-0.13998762,0.126018,0.25054225,-0.09190277,0.2636044,0.07079447,0.39005825,0.17396478,0.36053082,0.060938638,-0.06578857,0.090162,0.108128406,0.28996536,-0.055395365,-0.20317219,0.11605797,-0.12386767,-0.34018078,-0.15023203,-0.30948743]');
INSERT INTO public.photos_tiles VALUES ('5ea82408-2c57-5931-a41f-3abebeef1fd3', 2, '[-0.3277751,0.057670828,0.13587064,-0.05974552,0.08255779,0.303708,-0.023902442,0.1275044,0.11414786,0.13656698,0.22393154,0.33525583,0.06489215,-0.2452373,-0.22624855,0.202103,-0.08732289,0.34848535,0.17215244,0.30033824,0.26301768,0.013456933,0.055620834,0.2817017]');
INSERT INTO public.photos_tiles VALUES ('5742346a-519b-56ad-a572-e56ff3caa086', 0, '[-0.27005067,0.2499723,-0.038602564,-0.0025068875,-0.3185745,-0.24470119,-0.16601977,-0.16670524,0.0718281,0.3423966,-0.24447408,-0.010590184,0.3520548,-0.055326283,0.0017465046,-0.2781227,-0.20659338,0.115663245,0.27698287,0.100300126,-0.2923993,-0.06310356,-0.12927166,-0.10347043]');
INSERT INTO public.photos_tiles VALUES ('5742346a-519b-56ad-a572-e56ff3caa086', 1, '[-0.12230727,-0.32749975,0.061121628,-0.33154085,-0.22162637,0.04565384,0.27426445,0.07848757,-0.15713695,-0.1976113,-0.23713778,-0.27729335,0.18449184,0.24648778,-0.019438617,-0.21375,-0.1825712,0.12976113,0.22980155,0.05558429,-0.32634372,0.0127420295,-0.22192366,0.1784265]');
INSERT INTO public.photos_tiles VALUES ('5742346a-519b-56ad-a572-e56ff3caa086', 2, '[-0.06978256,0.236572,-0.088586815,0.023683067,-0.40684283,0.15173939,-0.39420488,0.14691299,0.114894904,0.12750413,-0.29827622,0.056590114,-0.38725826,0.108155414,0.06883555,0.028703552,-0.13496259,-0.029367264,-0.10386422,-0.32944658,0.033543367,0.26935327,-0.24813761,0.052172165]');
INSERT INTO public.photos_tiles VALUES ('aa6074e2-5590-53e8-8ca6-c054a0f38e26', 0, '[0.265747,0.20685208,0.10650139,0.19340818,-0.016701767,-0.06156587,0.28858227,0.05856012,0.25122252,-0.03575917,0.12732391,-0.3626901,0.28244433,-0.29729503,0.27133703,0.23181668,-0.04816094,-0.11922104,-0.056350265,0.26901472,0.34991896,-0.1419872,0.02439,0.064174466]');
INSERT INTO public.photos_tiles VALUES ('aa6074e2-5590-53e8-8ca6-c054a0f38e26', 1, '[0.12656379,-0.27871713,-0.0753813,0.25649914,0.03094795,0.059646744,0.038369816,-0.34544465,-0.29528132,-0.00070721837,0.27604312,0.26735932,-0.32586077,0.16324969,0.24096733,-0.26891515,0.08131285,0.2537751,-0.13427572,0.043619625,0.005689855,-0.2833653,-0.18248032,-0.08271756]');
INSERT INTO public.photos_tiles VALUES ('aa6074e2-5590-53e8-8ca6-c054a0f38e26', 2, '[-0.2940246,-0.32041323,-0.19661707,0.045961138,0.2534545,-0.26165473,-0.07984951,0.23978277,0.17512055,0.24611709,0.21162504,-0.20056336,0.24899834,-0.08225086,0.13232127,-0.061104447,0.07734831,0.2836989,-0.06536088,0.2622466,0.097557284,-0.24434425,0.2801443,0.008056833]');
ALTER TABLE ONLY public.jclip_collections
    ADD CONSTRAINT jclip_collections_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.photos
    ADD CONSTRAINT photos_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.photos_tiles
    ADD CONSTRAINT photos_tiles_pkey PRIMARY KEY (key, "position");
CREATE INDEX photos_terms ON public.photos USING gin (terms);
ALTER TABLE ONLY public.photos_tiles
    ADD CONSTRAINT photos_tiles_key_fkey FOREIGN KEY (key) REFERENCES public.photos(key) ON DELETE CASCADE;
